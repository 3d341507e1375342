"""The registry: names, selection, and fresh reproducible inputs."""

import numpy as np
import pytest

import gpugrad.bench.cases  # noqa: F401  fills the registry
from gpugrad.bench.case import REGISTRY, Case, cast, leaves, select
from gpugrad.errors import ArgumentError


def test_every_workload_is_there():
    numbers = [e.name.split("_")[0] for e in select() if isinstance(e, Case)]
    assert numbers == ["w01", "w02", "w03", "w04", "w05", "w06", "w07", "w07b", "w08", "w09", "w10", "w11", "w12"]


@pytest.mark.parametrize("word", ["w3", "W3", "w03", "W03", "mlp", "w03_mlp"])
def test_a_case_is_found_by_number_word_or_name(word):
    assert [e.name for e in select([word])] == ["w03_mlp"]


def test_numbers_are_not_prefixes():
    assert [e.name for e in select(["w1"])] == ["w01_chain"]
    assert [e.name for e in select(["w7b"])] == ["w07b_hessian"]


def test_a_name_with_a_capital_is_found_as_the_list_shows_it():
    assert [case.name for case in select(["depth_1M"])] == ["depth_1M"]


def test_an_unknown_case_is_named_with_the_choice():
    with pytest.raises(ArgumentError, match=r"no case named 'w99'\. Choose from .*w03_mlp"):
        select(["w3", "w99"])


def test_two_cases_of_one_name_are_refused():
    with pytest.raises(ArgumentError, match="w03_mlp"):
        Case("w03_mlp", "", {}, {}, lambda p, rng: {}, ())
    assert REGISTRY["w03_mlp"].title


def test_two_variants_of_one_library_are_refused():
    with pytest.raises(ArgumentError, match="one torch variant of w03_mlp"):
        REGISTRY["w03_mlp"].variant("torch")(lambda peer, d: None)


def test_inputs_are_reproducible_and_never_shared():
    case = REGISTRY["w01_chain"]
    one, two, other = case.data(seed=1), case.data(seed=1), case.data(seed=2)
    assert np.array_equal(one.x, two.x)
    assert not np.array_equal(one.x, other.x)
    assert not np.shares_memory(one.x, two.x)
    assert one.x.dtype == np.float32


def test_cast_leaves_integers_alone():
    values = cast([np.ones(2), np.arange(3), "word"], "float32")
    assert [getattr(v, "dtype", v) for v in values] == [np.float32, np.int64, "word"]


def test_leaves_keep_their_order():
    assert leaves((1, [2, {"a": 3, "b": (4,)}], 5)) == [1, 2, 3, 4, 5]
