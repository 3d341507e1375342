"""Modes and default devices belong to the code inside their `with`, also where that is a generator that stops there."""
import asyncio
import contextlib
import gc
import inspect
import threading

import numpy as np
import pytest

import gpugrad as gg

recording = gg.is_grad_enabled


def quiet():
    with gg.no_grad():
        while True:
            yield recording()


def test_a_generator_that_stops_inside_no_grad_keeps_it_to_itself():
    steps = quiet()
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    assert next(steps) is False
    assert recording()
    (x * x).sum().backward()
    assert x.grad.tolist() == [2, 4]
    np.testing.assert_array_equal(gg.grad(lambda z: np.sum(z * z))(np.ones(2)), [2, 2])
    assert next(steps) is False
    steps.close()
    assert recording()
    assert gg.graph.state.current() is gg.graph.state.RECORD, "the fast path is back"


def test_what_a_generator_enters_reaches_what_it_calls():
    def outer():
        with gg.no_grad():
            for _ in range(2):
                yield (lambda: recording())()
            yield from inner()

    def inner():
        yield recording()
        with gg.enable_grad():
            yield recording()
        yield recording()
    seen = []
    for inside in outer():
        seen.append(inside)
        assert recording()
    assert seen == [False, False, False, True, False]


def test_generators_and_functions_enter_and_leave_in_any_order():
    first, second = quiet(), quiet()
    next(first)
    with gg.no_grad():
        next(second)
        first.close()
        assert not recording()
        with gg.enable_grad():
            assert recording()
            assert next(second) is False, "a generator that goes on has the last word"
            assert recording()
        assert not recording()
    assert recording()
    assert next(second) is False
    second.close()
    assert recording()
    assert gg.graph.state.current() is gg.graph.state.RECORD


def test_a_generator_that_outlives_the_no_grad_it_began_in():
    with gg.no_grad():
        loud = iter(enabled())
        assert next(loud)
        assert not recording()
    assert recording()
    assert next(loud)
    with gg.no_grad():
        assert next(loud)
        loud.close()
        assert not recording()
    assert recording()


def enabled():
    with gg.enable_grad():
        while True:
            yield recording()


def test_a_generator_that_is_forgotten_leaves_no_mode():
    next(quiet())
    gc.collect()
    assert gg.graph.state.current() is gg.graph.state.RECORD


def test_a_context_manager_made_of_a_generator_serves_its_with():
    @contextlib.contextmanager
    def evaluating():
        with gg.no_grad():
            yield
    with evaluating():
        assert not recording()
        with evaluating():
            assert not recording()
        assert not recording()
    assert recording()

    def steps():
        with evaluating(), contextlib.ExitStack() as stack:
            yield recording()
            stack.enter_context(gg.enable_grad())
            yield recording()
    found = steps()
    for expected in (False, True):
        assert next(found) is expected
        assert recording()
    assert list(found) == []
    assert recording()


def test_one_object_may_be_entered_by_many():
    mode = gg.no_grad()

    def steps():
        with mode:
            yield recording()
            yield recording()
    first, second = steps(), steps()
    assert [next(first), next(second)] == [False, False]
    first.close()
    assert next(second) is False
    assert recording()
    entered, leave = threading.Event(), threading.Event()
    seen = []

    def other():
        with mode:
            entered.set()
            leave.wait(5)
        seen.append(recording())
    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(5)
    with mode:
        leave.set()
        thread.join()
        assert not recording()
    assert recording()
    assert seen == [True]


def test_a_decorated_generator_runs_in_its_mode_and_its_caller_does_not():
    @gg.no_grad()
    def steps(n):
        """Numbers."""
        try:
            given = yield recording()
            yield given, recording()
        except ValueError as error:
            yield str(error), recording()
        return n
    assert inspect.isgeneratorfunction(steps)
    assert steps.__doc__ == "Numbers."
    found = steps(3)
    assert next(found) is False
    assert recording()
    assert found.send("a") == ("a", False)
    assert recording()
    found = steps(3)
    next(found)
    assert found.throw(ValueError("no")) == ("no", False)
    with pytest.raises(StopIteration) as stop:
        next(found)
    assert stop.value.value == 3
    timed = contextlib.contextmanager(gg.no_grad()(lambda: (yield 1)))
    with timed() as one:
        assert one == 1
        assert recording(), "only the body of the generator is decorated"


def test_asynchronous_functions_and_generators():
    @gg.no_grad()
    async def steps():
        """Numbers."""
        try:
            given = yield recording()
            await asyncio.sleep(0)
            yield given, recording()
        except ValueError as error:
            yield str(error), recording()

    async def plain():
        with gg.no_grad():
            await asyncio.sleep(0)
            yield recording()

    @gg.no_grad()
    async def later():
        await asyncio.sleep(0)
        return recording()

    async def main():
        assert recording()
        found = steps()
        assert await found.asend(None) is False
        assert recording()
        assert await found.asend("a") == ("a", False)
        with pytest.raises(StopAsyncIteration):
            await found.asend(None)
        found = steps()
        await found.asend(None)
        assert await found.athrow(ValueError("no")) == ("no", False)
        await found.aclose()
        assert recording()
        async for inside in plain():
            assert not inside
            assert recording()
        others = asyncio.gather(later(), asyncio.to_thread(recording))
        assert recording()
        assert await others == [False, True]
        assert recording()
    asyncio.run(main())


def test_other_modes_and_devices_are_kept_in_as_well():
    def steps():
        with gg.device("cpu"), gg.detect_anomaly():
            yield gg.default_device()
    with gg.device("sim"):
        found = steps()
        assert next(found) == "cpu"
        assert gg.default_device() == "sim"
        with np.errstate(invalid="ignore"):
            assert np.isnan(gg.log(gg.asarray(np.array(-1.0))).data), "no anomaly mode here"
        found.close()
        assert gg.default_device() == "sim"


def test_compiled_functions_see_the_mode_that_is_in_effect():
    steps = quiet()
    next(steps)
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    np.testing.assert_array_equal(gg.compile(gg.grad(lambda x: (x * x).sum()))(x).data, [2, 4])


def test_a_jvp_may_run_a_generator_of_either_side_of_it():
    steps = quiet()
    next(steps)

    def f(x):
        mine = quiet()
        assert [next(steps), next(mine)] == [False, False]
        return np.sum(x ** 3)
    np.testing.assert_array_equal(gg.hvp(f, np.ones(2), np.ones(2)), [6, 6])
    assert recording()
