"""The launch log."""
import json
import threading

import numpy
import pytest

from gpugrad.kernels.record import note, open_logs, recording, scaled


def test_nothing_is_kept_while_no_log_is_open():
    note("k", "kernel", writes=[3])
    with recording() as log:
        pass
    note("k", "kernel")
    assert log.launches == []
    assert not open_logs()


def test_rows_sum_what_has_one_name_and_kind():
    with recording() as log:
        note("gemm", "cupy", flops=5)
        note("k", "kernel", (2,), (32,), [numpy.ones(4, "f"), 4, None], [numpy.ones(1)], 7)
        note("k", "kernel", reads=[10])
        note("k", "cublaslt", writes=[1])
    assert [(r.name, r.kind, r.calls, r.bytes_read, r.bytes_written, r.flops) for r in log.rows()] == [
        ("k", "kernel", 2, 30, 8, 7), ("k", "cublaslt", 1, 0, 1, 0), ("gemm", "cupy", 1, 0, 0, 5)]
    total = log.total()
    assert (total.calls, total.bytes_read, total.bytes_written, total.flops) == (4, 30, 9, 12)


def test_a_log_inside_another_counts_in_both():
    with recording() as outer:
        note("a", "kernel")
        with recording() as inner:
            note("b", "kernel")
        note("c", "kernel")
    assert [x.name for x in outer.launches] == ["a", "b", "c"]
    assert [x.name for x in inner.launches] == ["b"]


def test_threads_keep_their_launches_apart():
    with recording() as log:
        thread = threading.Thread(target=note, args=("elsewhere", "kernel"))
        thread.start()
        thread.join()
        note("here", "kernel")
    assert [x.name for x in log.launches] == ["here"]


def fail():
    with recording():
        raise KeyError


def test_an_error_inside_closes_the_log():
    with pytest.raises(KeyError):
        fail()
    assert not open_logs()


def test_json_holds_launches_rows_and_total():
    with recording() as log:
        note("k", "kernel", (2, 1, 1), (32, 1, 1), [8], [4], 1)
    data = json.loads(log.json())
    row = {"name": "k", "kind": "kernel", "bytes_read": 8, "bytes_written": 4, "flops": 1}
    assert data["launches"] == [row | {"grid": [2, 1, 1], "block": [32, 1, 1]}]
    assert data["rows"] == [row | {"calls": 1}]
    assert data["total"] == row | {"calls": 1, "name": "total", "kind": ""}


def test_table_lines_up_and_ends_with_the_total():
    with recording() as log:
        note("softmax<float>", "kernel", reads=[4_000_000], writes=[4_000_000], flops=123)
        note("k", "kernel", reads=[1])
    lines = log.table().splitlines()
    assert lines[0].split() == ["launch", "kind", "calls", "read", "written", "flops"]
    assert lines[1].split() == ["softmax<float>", "kernel", "1", "4", "MB", "4", "MB", "123", "flop"]
    assert lines[-1].split() == ["total", "2", "4", "MB", "4", "MB", "123", "flop"]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(("number", "shown"), [
    (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_234_567, "1.235 MB"), (999_960, "1 MB"),
    (84_700_000_000, "84.7 GB"), (10**16, "1e+04 TB"),
])
def test_numbers_have_four_digits_and_a_unit(number, shown):
    assert scaled(number, "B") == shown
