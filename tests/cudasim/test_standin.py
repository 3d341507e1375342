"""The stand-in for CuPy: its refusals, its counts, its kernels, and its names against an installed CuPy's."""

import inspect
import re
import weakref

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.arrays import exclusive, move
from gpugrad.cudasim import OutOfBounds, cupy
from gpugrad.cudasim.cupy.surface import FUNCTIONS, LIKE_UFUNCS, UFUNCS


@pytest.fixture
def x():
    return cupy.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))


@pytest.mark.parametrize("call", [
    lambda x: x + np.ones(3),
    lambda x: np.ones(3) + x,
    lambda x: cupy.add(x, [1, 2, 3]),
    lambda x: cupy.sin([1.0]),
    lambda x: cupy.concatenate([x, np.ones((1, 3))]),
    lambda x: x @ np.ones((3, 1)),
    lambda x: np.asarray(x),
    lambda x: cupy.sum(x, where=True),
    lambda x: cupy.add(x, 1, where=True),
    lambda x: cupy.array([x[0, 0], 1.0]),
    lambda x: cupy.select([x > 0], [1.0]),
    lambda x: x.astype("d", casting="safe"),
    lambda x: x.set(np.ones((2, 3))),
    lambda x: cupy.matmul(x, x.T, cupy.empty((2, 2), "f")),
    lambda x: [1, 2][cupy.array(1)],
    lambda x: hash(x.device),
    lambda x: cupy.sum([1.0, 2.0]),
    lambda x: cupy.concatenate([x, 1.0]),
    lambda x: cupy.maximum.at(x.astype("e"), 0, 1.0),
    lambda x: cupy.logical_and(x.astype("complex64"), True),
    lambda x: np.ones((2, 3), np.float32).__iadd__(x),
    lambda x: cupy.add.at(x.astype("complex64"), 0, 1),
    lambda x: cupy.sin(gg.tensor(1.0, requires_grad=True)),
])
def test_what_cupy_refuses_is_a_type_error(x, call):
    with pytest.raises(TypeError):
        call(x)


def test_fill_takes_one_number_of_the_host(x):
    x.fill(np.array(3.0))
    assert (x.get() == 3).all()
    with pytest.raises(ValueError, match="non-scalar"):
        x.fill(np.ones(1))


@pytest.mark.parametrize(("place", "name"), [(cupy, "ElementwiseKernel"), (cupy, "fuse"), (cupy.cuda, "malloc_managed")])
def test_what_is_left_out_says_so(place, name):
    assert not hasattr(place, name)
    with pytest.raises(AttributeError, match=f"has no attribute '{name}': the stand-in for CuPy leaves it out"):
        getattr(place, name)


def test_dlpack_stays_on_the_device(x):
    y = cupy.from_dlpack(x)
    y[0] = 7
    assert x[0].tolist() == [7, 7, 7] and x.__dlpack_device__() == (2, 0)
    with pytest.raises(TypeError, match="CPU arrays cannot be directly imported"):
        cupy.from_dlpack(np.ones(3))
    with pytest.raises(BufferError, match="no address that other libraries"):
        np.from_dlpack(x)
    assert cupy.frombuffer(np.arange(3.0).tobytes()).tolist() == [0, 1, 2]


def test_powers_and_signs_are_cupys():
    assert (cupy.array([2, 1, -1, -1, 0]) ** cupy.array([-1, -2, -3, -2, 1])).tolist() == [0, 1, -1, 1, 0]
    assert cupy.sign(cupy.array([True, False])).dtype == "int8"
    with pytest.raises(cupy.cuda.compiler.CompileException, match="no instance of overloaded function"):
        cupy.hypot(cupy.ones(2, "F"), 1)


def test_reductions_are_arrays_without_axes(x):
    for y in (x.sum(), x.max(), cupy.mean(x), np.sum(x), x.argmax(), cupy.allclose(x, x), x[1, 2]):
        assert type(y) is cupy.ndarray and y.shape == ()


def test_results_are_in_c_order(x):
    assert (x.T * 2).flags.c_contiguous and not x.T.flags.c_contiguous


@pytest.mark.parametrize(("number", "dtype"), [(2.0, "float32"), (2, "float32"), (np.float32(2), "float32"),
                                               (np.float64(2), "float64")])
def test_python_numbers_are_weak_and_numpys_are_strong(x, number, dtype):
    assert (x * number).dtype == dtype == (number * x).dtype


def test_index_arrays_wrap_around_and_numbers_do_not(x):
    assert np.array_equal(x[:, cupy.asarray(np.array([3, -4, 2]))].get(), x.get()[:, [0, 2, 2]])
    assert np.array_equal(x[..., cupy.asarray(np.array([4]))].get(), x.get()[:, [1]])
    with pytest.raises(IndexError):
        x[2]


def test_singular_matrices_do_not_raise():
    assert not cupy.isfinite(cupy.linalg.inv(cupy.zeros((2, 2)))).any()


def test_launches_are_counted_and_views_are_free(x):
    with cupy.recording() as log:
        x.T.reshape(6)[1:]                        # a transpose in one axis is a copy
        x[:, 1:], x.reshape(6), cupy.broadcast_to(x, (4, 2, 3)), cupy.moveaxis(x, 0, 1)
        (x + 1).sum()
        x @ x.T
    assert log.names() == ["cupy_reshape", "cupy_add", "cupy_sum", "cublas_gemm"]
    assert (log.launches[1].bytes_read, log.launches[1].bytes_written, log.waits) == (24, 24, 0)


def test_waits_and_copies_are_counted(x):
    before = cupy.host_waits()
    with cupy.recording() as log:
        bool(x[0, 0] == 0), float(x[0, 1]), x.get(), x.sum().item(), cupy.nonzero(x), x[x > 2]
        cupy.asarray(np.ones(3))
    assert (log.to_host, log.to_device, log.waits) == (4, 1, 7) and cupy.host_waits() == before + 7


def test_views_keep_their_owner_and_exclusive_sees_them(x):
    assert x.base is None and x[1:].base is x and x.T[1:].base is x
    y = x + 1
    assert exclusive(y)
    part = y[0]
    assert not exclusive(y)
    owner = weakref.ref(y)
    del y
    assert owner() is part.base


def test_arrays_of_two_devices_do_not_mix(x):
    with cupy.cuda.Device(1):
        y = cupy.ones(3, dtype="float32")
    assert (x.device.id, y.device.id) == (0, 1)
    with pytest.raises(ValueError, match="device"):
        x + y


KERNEL = """template <class T> __global__ void twice(const T* x, T* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] + x[i];
}"""


def test_kernels_run_and_are_counted(x):
    kernel = cupy.RawModule(code=KERNEL, options=("-std=c++17",), name_expressions=("twice<float>",)).get_function("twice<float>")
    y = cupy.empty((2, 3), dtype="float32")
    with cupy.recording() as log:
        kernel((1,), (32,), (x, y, np.int32(6)))
    assert np.array_equal(y.get(), 2 * x.get())
    assert [(a.name, a.kind, a.block) for a in log.launches] == [("twice<float>", "kernel", (32,))]
    with pytest.raises(OutOfBounds):
        kernel((1,), (32,), (x, y, np.int32(7)))


def test_errors_of_the_compiler_are_cupys():
    with pytest.raises(cupy.cuda.compiler.CompileException, match="undefined"):
        cupy.RawModule(code='extern "C" __global__ void k() { wrong(); }').get_function("k")


def test_device_sim_is_a_device_of_gpugrad():
    with gg.device("sim:1") as device:
        t = gg.tensor([1.0, 2.0], requires_grad=True)
        (t * t).sum().backward()
    assert t.device == device == "sim:1" and type(t.data) is cupy.ndarray and gg.device("sim") == "sim:0"
    assert t.grad.device == "sim:1" and t.grad.data.get().tolist() == [2, 4]
    assert move(t.data, gg.device("sim")).device.id == 0
    assert gg.default_device() != "sim"
    with pytest.raises(gg.DeviceError, match="sim:0 to sim:1"):
        gg.device("sim:2")


def test_tensors_move():
    t = gg.tensor([1.0, 2.0], device="sim")
    assert t.cpu().device == "cpu" and t.to("sim:1").device == "sim:1" and t.cpu().numpy().tolist() == [1, 2]


LAUNCHES = {
    "operator": lambda x: x + 1, "function": lambda x: cupy.exp(x), "reduction": lambda x: x.sum(), "product": lambda x: x @ x,
    "cast": lambda x: x.astype("f"), "in place": lambda x: x.fill(0), "write": lambda x: x.__setitem__(0, 1.0),
    "lookup": lambda x: x[x > 0], "sort": lambda x: x.argsort(), "join": lambda x: cupy.concatenate([x] * 9),
    "scatter": lambda x: cupy.add.at(x, cupy.zeros(1, int), 1.0), "out": lambda x: cupy.exp(cupy.ones(3), out=x),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_arrays_of_a_device_that_is_not_current_are_refused_by_launches(name):
    with cupy.cuda.Device(1):
        x = cupy.ones(3)
    with pytest.raises(ValueError, match="must be same as the current device: array device = 1 while current = 0"):
        LAUNCHES[name](x)


def test_views_and_copies_of_such_arrays_are_made():
    with cupy.cuda.Device(1):
        x = cupy.ones((2, 3))
    assert x.T.device.id == x[1:].device.id == x.reshape(-1).device.id == cupy.broadcast_to(x, (4, 2, 3)).device.id == 1
    y = cupy.empty((2, 3))
    cupy.copyto(y, x)
    assert x.copy().device.id == 0 and y.get().tolist() == x.get().tolist()


def test_names_and_signatures_are_cupys():
    real = pytest.importorskip("cupy", reason="compares with CuPy's own names")
    for name in (*UFUNCS.split(), *LIKE_UFUNCS.split()):
        assert isinstance(getattr(real, name), real.ufunc), name
    for text in FUNCTIONS.split("\n")[1:-1]:
        place = real
        for part in re.match(r"[\w.]+", text)[0].split("."):
            place = getattr(place, part)
        ours = text[text.index("("):]
        found = re.sub(r": '[^']*'|<class '(\w+)'>", r"\1", str(inspect.signature(place))).split(" -> ")[0].replace(" = ", "=")
        assert ours == found, text
    own = {"recording", "host_waits", "cublaslt",
           "blocks", "creation", "device", "functions", "indexing", "pool", "raw", "streams", "surface"}
    assert {name for name in vars(cupy) if not name.startswith("_") and not hasattr(real, name)} <= own
    for name in (n for n in vars(cupy.ndarray) if not n.startswith("_")):
        assert hasattr(real.ndarray, name), name
