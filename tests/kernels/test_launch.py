"""The launcher: kernels run on the simulated device, arguments are typed, and what CUDA would not notice is refused by name."""
import numpy
import pytest

from gpugrad.cudasim import cupy
from gpugrad.errors import ArgumentError, DeviceError, DtypeError
from gpugrad.kernels.launch import LaunchError, grid_for, launch, vector_width
from gpugrad.kernels.load import Source
from gpugrad.kernels.record import recording

AXPY = Source("axpy.cu", text="""#include <cuda_fp16.h>
template <typename T, int V>
__global__ void axpy(const T* x, T* y, float a, long long n, int step = 1, const T* z = nullptr) {
  long long i = (blockIdx.x * (long long)blockDim.x + threadIdx.x) * V;
  for (int v = 0; v < V; ++v) if (i + v < n) y[i + v] += T(a) * x[(i + v) * step] + (z ? z[i + v] : T(0));
}
__global__ void gather(const float* x, float* y, int stride, int n) {
  if (threadIdx.x < n) y[threadIdx.x] = x[threadIdx.x * stride];
}
__global__ void through(const unsigned long long* addresses, float value) {
  reinterpret_cast<float*>(addresses[threadIdx.x])[0] = value;
}
__global__ void big(float* y, int n) {
  extern __shared__ float room[];
  room[threadIdx.x] = threadIdx.x;
  __syncthreads();
  y[threadIdx.x] = room[n - 1 - threadIdx.x];
}
""")
F32 = numpy.dtype("float32")


pytestmark = pytest.mark.usefixtures("sim")


@pytest.fixture
def calls(monkeypatch):
    """What the kernels of the device are called with: (device, grid, block, arguments)."""
    found, call = [], cupy.RawKernel.__call__

    def noted(kernel, grid, block, args, **how):
        found.append((cupy.cuda.runtime.getDevice(), grid, block, args))
        return call(kernel, grid, block, args, **how)
    monkeypatch.setattr(cupy.RawKernel, "__call__", noted)
    return found


def array(values, dtype="float32", device=0):
    with cupy.cuda.Device(device):
        return cupy.asarray(numpy.asarray(values, dtype))


def run(*args, template=(F32, 1), grid=1, block=32, **named):
    launch(AXPY, "axpy", template, grid, block, args, **named)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_kernel_runs_with_every_scalar_typed(calls, dtype):
    x, y = array(numpy.arange(100), dtype), array(numpy.ones(100), dtype)
    launch(AXPY, "axpy", (x.dtype, 1), 4, 32, (x, y, 0.5, 100))
    assert numpy.array_equal(y.get(), (1 + 0.5 * numpy.arange(100)).astype(dtype))
    (_, grid, block, args), = calls
    assert [type(a) for a in args[2:5]] == [numpy.float32, numpy.int64, numpy.int32]
    assert args[5] is None
    assert (grid, block) == ((4, 1, 1), (32, 1, 1))


def test_defaults_of_the_signature_fill_in():
    x, y, z = array([1, 9, 2, 9]), array([0, 0]), array([10, 20])
    run(x, y, 1, 2, 2, z)
    assert y.get().tolist() == [11, 22]
    run(x, y, 0, 2, 2)
    assert y.get().tolist() == [11, 22]


def test_null_is_for_parameters_that_say_so():
    x, y = array([1]), array([1])
    run(x, y, 2.0, 1, 1, None)
    assert y.get().tolist() == [3]
    with pytest.raises(ArgumentError, match=r"axpy: generated/axpy\.cu needs an array as `x`, got None"):
        run(None, y, 2.0, 1)


@pytest.mark.parametrize("args", [(), (1,), range(7)])
def test_a_wrong_number_of_arguments_names_the_parameters(args):
    with pytest.raises(ArgumentError, match=rf"axpy: .* needs 6 arguments \(T\* x, T\* y, float a, .*\), got {len(args)}"):
        run(*args)


def test_nothing_to_write_launches_nothing(calls):
    x, y = array([]), array([])
    with recording() as log:
        run(x, y, 1.0, 0, grid=0)
        run(array([1.0]), y, 1.0, 0)
    assert calls == log.launches == []


def test_nothing_to_read_is_still_a_launch(calls):
    y = array([1, 2])
    run(array([]), y, 1.0, 0)
    assert len(calls) == 1
    assert y.get().tolist() == [1, 2]


def test_addresses_in_an_array_count_as_work():
    y = array([0.0, 0.0])
    addresses = array([y.data.ptr, y[1:].data.ptr], "uint64")
    launch(AXPY, "through", (), 1, 2, (addresses, 7))
    assert y.get().tolist() == [7, 7]


REFUSED = {
    "strides": (lambda x, y: (x[::2], y, 1.0, 4), ArgumentError,
                r"axpy: generated/axpy\.cu needs a contiguous array as `x`, got strides \(8,\)\. Use gpugrad\.ascontig"),
    "dtype": (lambda x, y: (x, array([1], "float64"), 1.0, 1), DtypeError, r"needs float32 as `y`, got float64"),
    "numpy": (lambda x, y: (numpy.ones(8, "f"), y, 1.0, 8), DeviceError,
              r"needs an array on the GPU as `x`, got a NumPy array"),
    "list": (lambda x, y: ([1.0], y, 1.0, 8), DtypeError, r"needs a CuPy array as `x`, got list \[1\.0\]"),
    "device": (lambda x, y: (x, array([1], device=1), 1.0, 1), DeviceError, r"one device, got x on cuda:0, y on cuda:1"),
    "int": (lambda x, y: (x, y, 1.0, 8, 2**31), ArgumentError, r"needs `step` between .* got 2147483648"),
    "float": (lambda x, y: (x, y, 1.0, 8.0), DtypeError, r"needs an int as `n` \(declared long long\), got float 8\.0"),
    "array for a number": (lambda x, y: (x, y, x, 8), DtypeError, r"needs a real number as `a`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_arguments_are_refused_before_anything_runs(calls, case):
    make, error, message = REFUSED[case]
    x, y = array(numpy.ones(8)), array(numpy.ones(8))
    with pytest.raises(error, match=message):
        run(*make(x, y))
    assert calls == []


def test_a_vector_kernel_refuses_an_odd_address():
    x, y = array(numpy.ones(9)), array(numpy.ones(8))
    run(x[:8], y, 1.0, 8, template=(F32, 4))
    with pytest.raises(ArgumentError, match=r"needs `x` at a multiple of 16 bytes, got address 0x.*vector_width"):
        run(x[1:], y, 1.0, 8, template=(F32, 4))
    run(x[1:], y, 1.0, 8, template=(F32, 1))
    assert y.get().tolist() == [3] * 8


def test_a_kernel_that_is_told_strides_takes_them():
    x, y = array(numpy.arange(12)), array(numpy.zeros(4))
    launch(AXPY, "gather", (), 1, 32, (x[::3], y, 3, 4), strided=("x",))
    assert y.get().tolist() == [0, 3, 6, 9]


@pytest.mark.parametrize(("grid", "block", "message"), [
    (0, 32, r"a grid of 1 to"), (2**31, 32, "a grid of 1 to"), ((1, 65536), 32, "a grid of 1 to"),
    ((1, 1, 65536), 32, "a grid of 1 to"),
    ((1, 1, 1, 1), 32, "a grid of 1 to"), (1, 0, "a block of 1 to"), (1, 1025, "a block of 1 to"),
    (1, (1, 1, 65), "a block of 1 to"),
    (1, (32, 33), "at most 1024 threads a block"),
])
def test_grids_and_blocks_keep_to_cudas_limits(calls, grid, block, message):
    with pytest.raises(ArgumentError, match=message):
        run(array([1]), array([1]), 1.0, 1, grid=grid, block=block)
    assert calls == []


def test_the_kernel_runs_on_the_device_of_its_arrays(calls):
    x, y = array([1], device=1), array([1], device=1)
    run(x, y, 1.0, 1)
    run(array([1]), array([1]), 1.0, 1)
    assert [device for device, *_ in calls] == [1, 0]
    assert cupy.cuda.runtime.getDevice() == 0


def test_much_shared_memory_is_asked_for():
    y = cupy.empty(64, "float32")
    launch(AXPY, "big", (), 1, 64, (y, 64), shared=64 << 10)
    assert y.get().tolist() == list(range(63, -1, -1))


def test_a_refusal_of_the_device_names_the_kernel(monkeypatch):
    def refuse(*_, **__):
        raise cupy.cuda.driver.CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")

    monkeypatch.setattr(cupy.RawKernel, "__call__", refuse)
    with pytest.raises(LaunchError, match=r"axpy: .* needs a launch that the device accepts, got CUDA_ERROR_INVALID"):
        run(array([1]), array([1]), 1.0, 1)


def test_launches_are_recorded_with_bytes_and_flops():
    x, y = array(numpy.ones(100)), array(numpy.ones(100))
    with recording() as log:
        run(x, y, 1.0, 100, grid=(2, 2), block=(16, 2), flops=200)
        run(x, y, 1.0, 100, reads=[x, y, 8], writes=[])
    first, second = log.launches
    assert (first.name, first.kind, first.grid, first.block) == ("axpy<float, 1>", "kernel", (2, 2, 1), (16, 2, 1))
    assert (first.bytes_read, first.bytes_written, first.flops) == (400, 400, 200)
    assert (second.bytes_read, second.bytes_written) == (808, 0)


@pytest.mark.parametrize(("dtype", "start", "size", "width"), [
    ("float32", 0, 16, 4), ("float32", 2, 16, 2), ("float32", 1, 16, 1), ("float32", 0, 18, 2),
    ("float32", 0, 7, 1), ("float64", 0, 8, 2),
    ("float64", 1, 8, 1), ("float16", 0, 16, 8), ("float16", 4, 16, 4), ("uint8", 0, 16, 16), ("float32", 0, 0, 4),
    ("complex128", 0, 3, 1),
])
def test_vector_width_follows_address_and_length(dtype, start, size, width):
    assert vector_width(array(numpy.zeros(64), dtype)[start:start + size]) == width


def test_vector_width_is_that_of_the_least_of_several():
    wide, narrow = array(numpy.zeros(64)), array(numpy.zeros(64), "float16")
    assert vector_width(wide, narrow) == 4
    assert vector_width(narrow, None, length=6) == 2
    assert vector_width(narrow, most=5) == 4
    assert vector_width(wide, wide[1:]) == 1
    assert vector_width() == 1


def test_vector_width_of_an_address_between_elements_is_one():
    assert vector_width(cupy.ndarray((4,), "float32", memptr=array(numpy.zeros(5)).data + 2)) == 1


@pytest.mark.parametrize(("n", "block", "per_thread", "most", "blocks"), [
    (0, 256, 1, None, 1), (1, 256, 1, None, 1), (256, 256, 1, None, 1), (257, 256, 1, None, 2), (4096, 256, 4, None, 4),
    (2**40, 256, 4, None, 2**30), (10**12, 256, 1, 528, 528),
])
def test_grid_for_covers_n(n, block, per_thread, most, blocks):
    assert grid_for(n, block, per_thread, most) == blocks


def test_grid_for_more_than_a_grid_holds_is_an_error():
    assert grid_for((2**31 - 1) * 256, 256) == 2**31 - 1
    with pytest.raises(ArgumentError, match="grid_for: expected at most 2147483647 blocks, got 2147483648"):
        grid_for((2**31 - 1) * 256 + 1, 256)


@pytest.mark.parametrize("start", [0, 1])
def test_a_kernel_of_the_project_takes_its_vector_path_by_address(start):
    x, y = array(numpy.linspace(-1, 1, 1001))[start:], cupy.empty(1001, "float32")[start:]
    width = vector_width(x, y, length=0)                                # this kernel has a tail of its own
    launch(Source("relu.cu"), "relu", (x.dtype, width), grid_for(x.size, 256, width) + 1, 256, (x, y, x.size))
    assert width == (1 if start else 4)
    assert numpy.array_equal(y.get(), numpy.maximum(x.get(), 0))


def test_the_names_we_use_are_cupys():
    real = pytest.importorskip("cupy", reason="compares with CuPy's own names")
    from importlib.util import find_spec

    import cupy_backends.cuda.api.driver as driver

    assert issubclass(real.cuda.compiler.CompileException, Exception)
    assert driver.CUDADriverError.__name__ == cupy.cuda.driver.CUDADriverError.__name__
    real.RawModule(code="", options=("-std=c++17",), name_expressions=("k<float>",))
    assert hasattr(real.RawModule, "get_function")
    assert hasattr(real.RawKernel, "max_dynamic_shared_size_bytes")
    assert all(callable(f) for f in (real.cuda.Device, real.cuda.runtime.getDevice, real.matmul))
    assert callable(real.cuda.get_current_stream)
    assert isinstance(real.cuda.Stream.null.ptr, int)
    assert find_spec("cupy.cublas") is not None
