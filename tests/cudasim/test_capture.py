"""Capture of a stream on the simulated device: what is kept, what is refused, and what a graph's addresses still lead to."""

import gc

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.cudasim import StaleMemory, cupy
from gpugrad.kernels import cublaslt
from gpugrad.kernels.softmax import softmax

CUDA = cupy.cuda.runtime.CUDARuntimeError
SCALE = 'extern "C" __global__ void scale(const float* x, float* y, float c, int n) {' \
        ' int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = c * x[i]; }'


@pytest.fixture(autouse=True)
def pool():
    """Every test has a pool of its own: which free block is taken next depends on nothing else."""
    made = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(made.malloc):
        yield made


@pytest.fixture
def stream():
    """A stream for capturing, gpugrad knowing the simulated device; whatever a test left captured is given up."""
    gg.device("sim")
    made = cupy.cuda.Stream(non_blocking=True)
    yield made
    for capture in list(cupy.device.CAPTURES):
        capture.unjoined.clear()
        capture.invalid = False
        capture.origin.end_capture()


@pytest.fixture
def x():
    return cupy.asarray(np.arange(6, dtype=np.float32))


def captured(stream, run, mode=None):
    with stream:
        stream.begin_capture(mode)
        result = run()
        return result, stream.end_capture()


@pytest.mark.parametrize("run", [
    lambda x: cupy.sin(x) * 2 + 1,
    lambda x: (x.reshape(2, 3) - x.max()).sum(axis=0),
    lambda x: cupy.concatenate([x, x[::-1]]).astype("float64"),
    lambda x: cupy.where(x > 2, x, cupy.zeros_like(x)),
    lambda x: x[cupy.argsort(-x)],
    lambda x: cupy.modf(x / 4)[0],
    lambda x: cupy.fft.fft(x).real.copy(),
    lambda x: cupy.add.accumulate(x),
    lambda x: cupy.broadcast_arrays(x, cupy.ones((2, 6), "float32"))[1] * x,
])
def test_captured_work_runs_at_each_launch_and_only_then(stream, x, run):
    expected = [run(x).get(), run(x + 1).get()]
    with cupy.recording() as log:
        y, graph = captured(stream, lambda: run(x))
        assert log.count == 0
    assert not np.array_equal(y.get(), expected[0])
    address = y.data.ptr
    graph.launch()
    np.testing.assert_array_equal(y.get(), expected[0])
    x[...] = x + 1
    graph.launch()
    np.testing.assert_array_equal(y.get(), expected[1])
    assert y.data.ptr == address


def test_work_in_place_is_kept_too(stream, x):
    def run():
        x[1:3] = 7
        cupy.add(x, 1, out=x)
        cupy.copyto(x[:1], x[1:2])
        cupy.add.at(x, indices, 1)
        cupy.fill_diagonal(square, 3)
        filled.fill(2)
    indices = cupy.asarray(np.array([5, 5]))
    square, filled = cupy.zeros((2, 2)), cupy.zeros(3)
    before = x.get()
    _, graph = captured(stream, run)
    np.testing.assert_array_equal(x.get(), before)
    graph.launch()
    np.testing.assert_array_equal(x.get(), [8, 8, 8, 4, 5, 8])
    assert square.get().trace() == 6 and filled.get().tolist() == [2, 2, 2]


def test_arguments_are_kept_as_they_were_and_memory_is_read_as_it_is(stream, x):
    kernel = cupy.RawModule(code=SCALE).get_function("scale")
    factor, y = np.full((), 2, np.float32), cupy.empty(6, "float32")
    with cupy.recording() as log:
        _, graph = captured(stream, lambda: kernel((1,), (32,), (x, y, factor[()], np.int32(6))))
        factor[()] = 5
        x[...] = 10
        graph.launch()
    assert y.get().tolist() == [20] * 6
    assert [a.name for a in log.launches] == ["cupy_setitem", "graph"] and log.count == 2
    assert [(a.name, a.kind, a.block) for a in log.launches[1].below] == [("scale", "kernel", (32,))]
    assert '"0: scale"' in graph.debug_dot_str() and graph.debug_dot_str(1) != graph.debug_dot_str()


def test_wrong_arguments_are_refused_before_the_launch(stream, x):
    kernel = cupy.RawModule(code=SCALE).get_function("scale")
    with pytest.raises(TypeError, match="argument 2"):
        captured(stream, lambda: kernel((1,), (32,), (x, x, 2.0, np.int32(6))))


def test_gpugrads_own_kernels_and_products_are_captured(stream):
    rng = np.random.default_rng(0)
    a, w = (cupy.asarray(rng.standard_normal(shape).astype("float32")) for shape in ((4, 8), (8, 32)))
    out, room = cupy.empty((4, 32), "float32"), cupy.empty(cublaslt.WORKSPACE_BYTES, "uint8")

    def run():
        cublaslt.matmul(a, w, out=out, workspace=room)
        return softmax(cupy)(out, axis=(1,))
    run()                                                           # compiled and loaded ahead of the capture
    y, graph = captured(stream, run)
    for _ in range(2):
        graph.launch()
        expected = np.exp(a.get() @ w.get())
        np.testing.assert_allclose(y.get(), expected / expected.sum(1, keepdims=True), rtol=1e-5, atol=1e-6)
        a *= 2
    kinds = [node.launch.kind for node in graph.nodes]
    assert kinds == ["gemm", "kernel"] and graph.nodes[0].launch.bytes_read == a.nbytes + w.nbytes


# refusals -----------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda x: cupy.matmul(x, x), NotImplementedError, "cuBLAS"),
    (lambda x: x @ x, NotImplementedError, "calling cuBLAS API during stream capture is currently unsupported"),
    (lambda x: cupy.einsum("i,i->", x, x), NotImplementedError, "cuBLAS"),
    (lambda x: cupy.tensordot(x, x, 1), NotImplementedError, "cuBLAS"),
    (lambda x: cupy.linalg.svd(x[None]), NotImplementedError, "cuSOLVER"),
    (lambda x: cupy.random.random(3), NotImplementedError, "cuRAND"),
    (lambda x: x.get(), RuntimeError, "the current stream is capturing, so D2H transfers are disallowed"),
    (lambda x: x[0].item(), RuntimeError, "D2H"),
    (lambda x: bool(x[0]), RuntimeError, "D2H"),
    (lambda x: float(x.sum()), RuntimeError, "D2H"),
    (lambda x: cupy.asarray(np.ones(3)), RuntimeError, "the current stream is capturing, so H2D transfers are disallowed"),
    (lambda x: x.set(np.ones(6, "f")), RuntimeError, "H2D"),
    (lambda x: x[[0, 1]], RuntimeError, "H2D"),
    (cupy.nonzero, RuntimeError, "is capturing"),
    (lambda x: x[x > 2], RuntimeError, "is capturing"),
    (lambda x: x.data.memset(0, 4), RuntimeError, "synchronous API calls are disallowed"),
])
def test_what_cupy_refuses_leaves_the_capture_alive(stream, x, call, error, words):
    with stream:
        stream.begin_capture()
        with pytest.raises(error, match=words):
            call(x)
        cupy.add(x, 1, out=x)
        graph = stream.end_capture()
    graph.launch()
    assert x.get()[0] == 1


@pytest.mark.parametrize(("call", "error"), [
    (lambda s: s.synchronize(), "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"),
    (lambda s: cupy.cuda.Device().synchronize(), "cudaErrorStreamCaptureUnsupported"),
    (lambda s: cupy.cuda.runtime.deviceSynchronize(), "cudaErrorStreamCaptureUnsupported"),
    (lambda s: s.record().synchronize(), "cudaErrorCapturedEvent"),
    (lambda s: s.done, None),
])
def test_what_cuda_refuses_ends_the_capture(stream, x, call, error):
    with stream:
        stream.begin_capture()
        if error:
            with pytest.raises(CUDA, match=error):
                call(stream)
        else:
            assert call(stream) is False
        with pytest.raises(RuntimeError, match="an error has invalidated the capture sequence"):
            stream.is_capturing()
        with pytest.raises(CUDA, match="cudaErrorStreamCaptureInvalidated"):
            cupy.sin(x)
        with pytest.raises(CUDA, match="cudaErrorStreamCaptureInvalidated"):
            stream.end_capture()
    assert not stream.is_capturing()
    stream.synchronize()


def test_captures_begin_and_end_on_one_stream_that_is_not_null(stream):
    with pytest.raises(RuntimeError, match="default"):
        cupy.cuda.Stream.null.begin_capture()
    with pytest.raises(CUDA, match="cudaErrorIllegalState"):
        stream.end_capture()
    stream.begin_capture()
    with pytest.raises(CUDA, match="cudaErrorIllegalState"):
        stream.begin_capture()
    assert stream.is_capturing() and not cupy.cuda.Stream.null.is_capturing()
    stream.end_capture()
    with pytest.raises(NotImplementedError, match="stream capture"):
        cupy.cuda.Graph()


def test_a_blocking_stream_must_not_be_captured_beside_work_on_the_null_stream(x):
    blocking = cupy.cuda.Stream()
    blocking.begin_capture()
    with pytest.raises(CUDA, match="cudaErrorStreamCaptureImplicit"):
        cupy.sin(x)
    with pytest.raises(CUDA, match="cudaErrorStreamCaptureInvalidated"):
        blocking.end_capture()


def test_other_streams_work_on_while_one_is_captured(stream, x):
    stream.begin_capture()
    assert (x + 1).get()[0] == 1
    stream.end_capture()


def test_events_fork_and_join_a_capture(stream, x):
    side, fork, join = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event(), cupy.cuda.Event()
    with stream:
        stream.begin_capture()
        y = x * 100
        fork.record(stream)
        side.wait_event(fork)
        with side:
            z = 3 * y + 1
            join.record(side)
        with pytest.raises(CUDA, match="cudaErrorStreamCaptureUnmatched"):
            side.end_capture()
        stream.capture.invalid = False                                         # what the wrong call above has done
        stream.wait_event(join)
        graph = stream.end_capture()
    assert not side.is_capturing()
    graph.launch()
    np.testing.assert_array_equal(z.get(), 300 * x.get() + 1)


def test_forks_must_join(stream, x):
    side, fork = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event()
    stream.begin_capture()
    fork.record(stream)
    side.wait_event(fork)
    with side:
        x + 1
    with pytest.raises(CUDA, match="cudaErrorStreamCaptureUnjoined"):
        stream.end_capture()
    assert not side.is_capturing() and not stream.is_capturing()


def test_host_functions_and_graphs_are_nodes(stream, x):
    calls = []
    _, inner = captured(stream, lambda: cupy.add(x, 1, out=x))

    def run():
        inner.launch()
        stream.launch_host_func(calls.append, 5)
    _, outer = captured(stream, run)
    for _ in range(3):
        outer.launch()
    assert x.get()[0] == 3 and calls == [5, 5, 5]


# memory -------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["Global", "ThreadLocal"])
def test_the_driver_is_asked_for_memory_in_relaxed_captures_alone(stream, mode):
    def run():
        return cupy.empty(5_000_000, "uint8")
    with cupy.recording() as log:
        captured(stream, run)
        captured(stream, run)
    assert log.mallocs == 1
    cupy.cuda.get_allocator().__self__.free_all_blocks()
    with pytest.raises(CUDA, match="cudaErrorStreamCaptureUnsupported"):
        captured(stream, run, getattr(cupy.cuda.runtime, f"streamCaptureMode{mode}"))


def test_replays_allocate_nothing(stream, x):
    _, graph = captured(stream, lambda: cupy.exp(x * 2) + 1)
    with cupy.recording() as log:
        for _ in range(3):
            graph.launch()
    assert (log.mallocs, log.waits, log.count) == (0, 0, 3)


def test_a_private_pool_keeps_what_was_freed_during_the_capture(stream, x):
    private = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(private.malloc):
        y, graph = captured(stream, lambda: cupy.sqrt(cupy.exp(x * 2) + 1))
    others = [cupy.ones(6, "float32") for _ in range(8)]
    graph.launch()
    np.testing.assert_allclose(y.get(), np.sqrt(np.exp(x.get() * 2) + 1), rtol=1e-6)
    assert private.used_bytes() == 512 and all((o.get() == 1).all() for o in others)
    private.free_all_blocks()
    assert private.total_bytes() == 512
    with pytest.raises(StaleMemory, match="given it back to the driver"):
        graph.launch()


def test_a_block_that_was_handed_out_again_is_found_before_anything_runs(stream, x):
    inputs = [x * 2]
    y, graph = captured(stream, lambda: cupy.exp(inputs[0]))
    graph.launch()
    inputs.clear()
    gc.collect()
    graph.launch()                                                             # free, and nobody has touched it
    np.testing.assert_allclose(y.get(), np.exp(2 * x.get()), rtol=1e-6)
    held = [cupy.ones(6, "float32") for _ in range(20)]
    with pytest.raises(StaleMemory, match=r"cupy_exp: .*float32\[6\].*handed out again") as caught:
        graph.launch()
    assert caught.value.kernel == "cupy_exp" and len(held) == 20


def test_an_input_that_the_capture_itself_wrote_over_is_found(stream):
    with stream:
        inputs = [cupy.ones(1000)]

    def run():
        y = inputs[0] + 1
        inputs.clear()
        z = y * 2                                                              # takes the block that was just freed
        return y, z
    outputs, graph = captured(stream, run)
    with pytest.raises(StaleMemory, match="cupy_add"):
        graph.launch()
    assert len(outputs) == 2


def test_products_know_their_memory(stream):
    rng = np.random.default_rng(1)
    a, out, *inputs = (cupy.asarray(rng.standard_normal((8, 8)).astype("float32")) for _ in range(3))
    room = cupy.empty(cublaslt.WORKSPACE_BYTES, "uint8")
    _, graph = captured(stream, lambda: cublaslt.matmul(a, inputs[0], out=out, workspace=room))
    graph.launch()
    inputs.clear()
    held = [cupy.ones((8, 8), "float32") for _ in range(20)]
    with pytest.raises(StaleMemory, match="cublasLtMatmul"):
        graph.launch()
    assert len(held) == 20
