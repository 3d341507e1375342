"""The clock: quantiles, batches, the end of sampling, the collector, CUDA events."""

import gc
import itertools
import time

import numpy as np
import pytest

from gpugrad.bench import clock
from gpugrad.bench.clock import EventTimer, Stopwatch, collector_off, quantile, take_turns


def scripted(durations):
    """A timer that reports these seconds per step in turn, whatever the step does."""
    turn = itertools.cycle(durations)
    return lambda step, wait, batch: next(turn) * batch


@pytest.mark.parametrize("samples", [[3.0], [2.0, 1.0], [5.0, 1.0, 4.0, 2.0], list(range(101))])
@pytest.mark.parametrize("q", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_quantiles_agree_with_numpy(samples, q):
    assert quantile(samples, q) == pytest.approx(np.quantile(samples, q))


def test_timing_reports_microseconds_of_one_step():
    watch = Stopwatch(lambda: None, timer=scripted([2e-3]))
    watch.warm_up(0.0)
    watch.sample(0.0)
    timing = watch.timing()
    assert (timing.p20_us, timing.p50_us, timing.p80_us) == pytest.approx((2e3, 2e3, 2e3))
    assert (timing.n, timing.batch, timing.warmup) == (1, 1, 1)


def test_a_short_step_is_batched_until_a_sample_is_a_millisecond():
    watch = Stopwatch(lambda: None, timer=scripted([1e-6]))
    watch.warm_up(0.0)
    assert watch.batch * 1e-6 >= clock.SHORTEST_SAMPLE
    assert watch.batch * 1e-6 < 2 * clock.SHORTEST_SAMPLE
    watch.sample(0.0)
    assert watch.timing().p50_us == pytest.approx(1.0)


def test_sampling_stops_as_soon_as_the_spread_is_small():
    watch = Stopwatch(lambda: None, timer=scripted([2e-3]))
    watch.sample(60.0)
    assert watch.settled
    assert len(watch.samples) == clock.ENOUGH


def test_an_uncertain_median_is_never_settled():
    watch = Stopwatch(lambda: None, timer=scripted([2e-3, 4e-3]))
    watch.sample(0.1)
    assert len(watch.samples) > clock.ENOUGH
    assert not watch.settled


def test_a_certain_median_is_settled_however_far_samples_spread():
    watch = Stopwatch(lambda: None, timer=scripted([2e-3, 4e-3, 6e-3]))
    watch.sample(60.0)
    assert clock.ENOUGH <= len(watch.samples) < 2 * clock.ENOUGH
    assert watch.timing().p50_us == pytest.approx(4e3)


def test_intervals_of_the_median_hold_it_as_often_as_they_say():
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        n = 50
        ordered = np.sort(rng.exponential(size=n))
        low = int((n - 1.96 * n**0.5) / 2)
        held += ordered[low] <= np.log(2) <= ordered[n - 1 - low]
    assert 0.93 <= held / 400 <= 0.99


def test_long_steps_are_sampled_less():
    watches = [Stopwatch(lambda: None, timer=scripted([2.0]))]
    take_turns(watches, seconds=0.0, rounds=2)
    assert len(watches[0].samples) == clock.FEW


def test_warm_up_runs_are_not_samples():
    calls = []
    watch = Stopwatch(lambda: calls.append(1), timer=lambda step, wait, batch: step() or 0.01)
    watch.warm_up(0.025)
    assert len(calls) == watch.warmup == 3
    assert watch.samples == []


def test_every_watch_gets_the_fewest_samples_even_without_a_budget():
    watches = [Stopwatch(lambda: None, timer=scripted([0.5, 1.5])) for _ in range(2)]
    take_turns(watches, seconds=0.0, rounds=2)
    assert [len(w.samples) for w in watches] == [clock.FEWEST] * 2


def test_watches_take_turns():
    order = []
    watches = [Stopwatch(lambda: None, timer=lambda step, wait, batch, name=name: order.append(name) or 1.0) for name in "ab"]
    take_turns(watches, seconds=0.0, rounds=3)
    assert "".join(order[2:8]) == "ababab"  # after the two warm-ups


def test_wait_blocks_on_each_result():
    seen = []
    clock.wall_seconds(lambda: 7, seen.append, 3)
    assert seen == [7, 7, 7]


def test_wall_seconds_measures_what_it_should():
    assert 0.02 <= clock.wall_seconds(lambda: time.sleep(0.01), None, 2) < 1.0


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_off_inside_and_as_before_outside(was_on):
    (gc.enable if was_on else gc.disable)()
    try:
        with collector_off():
            assert not gc.isenabled()
        assert gc.isenabled() is was_on
    finally:
        gc.enable()


def test_event_timer_brackets_the_whole_batch():
    log = []

    class Event:
        def record(self):
            log.append("record")

        def synchronize(self):
            log.append("synchronize")

    timer = EventTimer(Event, lambda start, stop: 5.0)
    assert timer(lambda: log.append("step"), None, 3) == pytest.approx(5e-3)
    assert log == ["record", "step", "step", "step", "record", "synchronize"]
