"""The score's formulas and counts, and the score of a step on the simulated device."""
import json

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.bench import score
from gpugrad.bench.score_compiled import replay
from gpugrad.bench.score_models import Block, Mlp
from gpugrad.errors import ArgumentError
from gpugrad.kernels.record import Launch


def test_least_bytes_and_launches_of_the_mlp_are_the_sum_of_its_products():
    mlp = Mlp()
    assert mlp.parameters == 1_863_690
    assert mlp.least_launches == 10
    assert mlp.least_bytes == pytest.approx(84.65e6, rel=1e-3)
    assert mlp.flops == pytest.approx(2.448e9, rel=1e-3)
    one = Mlp(batch=2, widths=(3, 5))                        # x w + b, dw, the loss's two passes and labels, Adam
    assert one.least_bytes == 4 * (6 + 15 + 10 + 5) + 4 * (6 + 10 + 15) + 4 * 2 * 10 + 16 + 28 * 20


def test_least_bytes_of_the_block_are_near_the_hand_count():
    assert Block().parameters == 7_087_872
    assert Block().least_bytes == pytest.approx(813.7e6, rel=0.02)
    assert Block().most_saved == pytest.approx(94.5e6, rel=1e-3)


@pytest.mark.parametrize("work", [Mlp(4, (6, 5, 5, 3)), Block(2, 4, 8, 2)], ids=["mlp", "block"])
def test_a_model_learns_and_has_the_parameters_its_formula_counts(work):
    model = work.build(gg, "cpu", "float64")
    losses = []
    for _ in range(21):
        output = model.step().detach()
        losses.append(output.item() if model.gradient is None else gg.sum(output * model.gradient).item())
    assert losses[-1] < losses[0]
    given = 0 if isinstance(work, Mlp) else model.leaves[0].size
    assert sum(leaf.size for leaf in model.leaves) - given == work.parameters


def test_saved_bytes_count_each_buffer_once_and_leave_out_what_was_given():
    x = gg.tensor(np.ones((8, 4)), requires_grad=True, device="cpu")
    y = gg.exp(x)                                            # kept by exp and by the product, a view by the sum
    loss = gg.sum(y.reshape(4, 8) * y.reshape(4, 8))
    assert score.saved_bytes(loss, [x]) == 256
    assert score.saved_bytes(gg.sum(x * x), [x]) == 0


def test_time_is_modelled_by_whichever_of_bytes_and_flops_takes_longer():
    launches = [Launch("a", bytes_read=3_350_000), Launch("b", flops=67_000_000),
                Launch("c", bytes_written=3350, flops=67_000_000)]
    assert score.seconds(launches, score.FLOAT32) * 1e6 == pytest.approx(1 + 1 + 1)


@pytest.mark.parametrize(("blocks", "share"), [(132, 1.0), (133, 133 / 264), (66, 0.5), (264, 1.0)])
def test_grid_fill_counts_the_last_wave(blocks, share):
    assert score.fill(Launch("k", grid=(blocks, 1, 1))) == pytest.approx(share)


def test_a_device_without_a_launch_log_is_refused():
    with pytest.raises(ArgumentError, match=r"launches are logged, got 'cpu' with none. Use --device sim"):
        score.take(Mlp(4, (6, 5, 3)), "cpu")


def test_scores_of_a_step_compare_counts_with_targets_and_name_what_was_not_counted():
    work = Mlp(4, (6, 5, 3))
    found = gg.profiling.Profile()
    found.log.launches += [Launch("relu", grid=(64, 1, 1), bytes_read=1 << 20)] * 15
    step = score.Step(work, found, saved=1000, repeats=False, error=1e-6)
    by_id = {s.id: s for s in score.score_step(step, "S1")}
    assert by_id["S1"].found == "15" and by_id["S1"].passed is False
    assert by_id["S3"].passed is False and by_id["S4"].passed is False and by_id["S14"].passed is False
    assert by_id["S9"].passed is False and by_id["S9"].found.startswith("48%")
    assert by_id["S15"].passed is True
    assert "modelled" in by_id["S12"].how and by_id["S12"].passed is None
    text = score.show(list(by_id.values()), [step], "sim")
    assert "torch eager, fused Adam" in text and "MISS" in text
    assert json.loads(score.as_json(list(by_id.values()), [step], "sim"))["steps"][0]["size"] == "4x6-5-3"


def test_score_of_a_step_on_the_simulated_device():
    step = score.take(Mlp(32, (64, 32, 32, 10)), "sim")
    names = {x.name for x in step.launches}
    assert any(name.startswith("adam<") for name in names)
    assert step.profile.bytes > step.work.least_bytes        # the least is a bound, or it is counted wrong
    assert step.repeats and step.error < 1e-4
    assert step.profile.syncs is not None


def test_score_of_a_replay():
    found = replay(Mlp(32, (64, 32, 32, 10), epilogues=True), "sim")
    by_id = {s.id: s for s in score.score_replay(found, "S1")}
    assert all(by_id[key].passed for key in ("S1", "S5", "S15")), by_id
    assert found.error < 1e-5 and by_id["S1"].found == "10 in 1 of the host"
    found.refused = "cuBLAS may not be captured"
    assert "no graph" in score.score_replay(found, "S1")[0].found
