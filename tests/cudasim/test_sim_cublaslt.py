"""The simulated cuBLASLt guards memory as kernels do, refuses what the library refuses, and lets a capture keep the work."""
import numpy
import pytest

from gpugrad.cudasim import Misaligned, OutOfBounds, ReadOnly, Uninitialised, address, empty
from gpugrad.cudasim.cublaslt import CublasLt, rounded
from gpugrad.kernels.lt_library import Algorithm, Handle, Layout, Library, LtError, Preference, Product


def multiply(lt, pointers, layouts, beta=0.0, compute="32F", workspace=(0, 0), **attributes):
    """D = A B + beta C of column-major float32 layouts (rows, cols, ld)."""
    import ctypes
    library = Library(lt)
    handle, product = Handle(library), Product(library, compute, "float32")
    for name, value in attributes.items():
        product[name] = value
    described = tuple(Layout(library, "float32", *x) for x in layouts)
    preference = Preference(library)
    best = handle.best(product, described, preference)
    algorithm = Algorithm() if best is None else best.algo
    for i in range(4):
        algorithm.data[i] = 1                              # any address will do: what an element needs is checked anyway
    handle.multiply(product, described, pointers, ctypes.c_float(1), ctypes.c_float(beta), algorithm, workspace, 5)
    return best


SQUARE = [(2, 2, 2)] * 4


def squares():
    return [numpy.asfortranarray(numpy.arange(4, dtype="f").reshape(2, 2) + i) for i in range(3)]


def test_it_multiplies_columns():
    a, b, d = squares()
    lt = CublasLt()
    multiply(lt, [address(x) for x in (a, b, d, d)], SQUARE)
    numpy.testing.assert_array_equal(d, a @ b)
    assert (lt.products, lt.streams) == (1, [5])


@pytest.mark.parametrize(("which", "shift", "layout", "error"), [
    (0, 4, (2, 2, 2), OutOfBounds), (3, 0, (2, 2, 3), OutOfBounds),
    (1, 1, (2, 2, 2), Misaligned), (0, 1 << 40, (2, 2, 2), OutOfBounds)])
def test_memory_beside_an_array_is_an_error(which, shift, layout, error):
    a, b, d = squares()
    c = d.copy(order="F")
    pointers, layouts = [address(x) for x in (a, b, c, d)], list(SQUARE)
    pointers[which] += shift
    layouts[which] = layout
    with pytest.raises(error, match=r"cublasLtMatmul: .* expected .* got"):
        multiply(CublasLt(), pointers, layouts)


def test_what_was_never_written_is_not_read():
    a, b, d = *squares()[:2], empty((2, 2))
    pointers = [address(x) for x in (a, b, d, d)]
    with pytest.raises(Uninitialised, match="C was expected to be written"):
        multiply(CublasLt(), pointers, SQUARE, beta=1.0)
    multiply(CublasLt(), pointers, SQUARE)
    multiply(CublasLt(), pointers, SQUARE, beta=1.0)
    numpy.testing.assert_array_equal(d.T, 2 * (a @ b))


def test_constants_are_not_written():
    a, b, d = squares()
    d.flags.writeable = False
    with pytest.raises(ReadOnly):
        multiply(CublasLt(), [address(x) for x in (a, b, d, d)], SQUARE)


@pytest.mark.parametrize(("layouts", "attributes"), [
    ([(2, 2, 2), (3, 2, 3), (2, 2, 2), (2, 2, 2)], {}),                             # inner sizes
    ([(2, 2, 1), *SQUARE[1:]], {}),                                                 # a leading dimension below the rows
    ([(2, 1, 2), (1, 2, 1), *SQUARE[2:]], {"EPILOGUE": 136, "EPILOGUE_AUX_POINTER": 16, "EPILOGUE_AUX_LD": 128}),   # DRELU, K = 1
    (SQUARE, {"EPILOGUE": 130, "EPILOGUE_AUX_POINTER": 16, "EPILOGUE_AUX_LD": 64}),  # rows of a mask that are no 128 bits
    (SQUARE, {"EPILOGUE": 4}),                                                      # a bias from nowhere
    (SQUARE, {"EPILOGUE": 3}),                                                      # no such epilogue
    ([(1, 2, 1), (2, 2, 2), (1, 2, 1), (1, 2, 1)], {"EPILOGUE": 512, "BIAS_POINTER": 16}),  # BGRADB of one row
    (SQUARE, {"SCALE_TYPE": 1}),                                                    # a float64 scale of float32
])
def test_what_the_library_does_not_support_is_refused(layouts, attributes):
    a, b, d = squares()
    with pytest.raises(LtError, match=r"cublasLtMatmul: .* CUBLAS_STATUS_INVALID_VALUE"):
        multiply(CublasLt(), [address(x) for x in (a, b, d, d)], layouts, **attributes)


def test_a_workspace_stands_at_256_bytes():
    a, b, d = squares()
    with pytest.raises(LtError):
        multiply(CublasLt(), [address(x) for x in (a, b, d, d)], SQUARE, workspace=(16, 512))


def test_a_captured_stream_keeps_the_work():
    a, b, d = squares()
    before, graph = d.copy(), []
    keeping = CublasLt(enqueue=lambda stream, work, product: graph.append(work))
    multiply(keeping, [address(x) for x in (a, b, d, d)], SQUARE, beta=1.0)
    numpy.testing.assert_array_equal(d, before)
    for _ in range(2):
        graph[0]()
    numpy.testing.assert_array_equal(d, before + 2 * (a @ b))


def test_tensor_cores_round_what_goes_in():
    x = numpy.float32([1 + 2**-10, 1 + 2**-11 + 2**-12, 1 + 2**-8])
    numpy.testing.assert_array_equal(rounded(x, 77), numpy.float32([1 + 2**-10, 1 + 2**-10, 1 + 2**-8]))
    numpy.testing.assert_array_equal(rounded(x, 75), numpy.float32([1, 1, 1 + 2**-7]))
    assert rounded(x, 68) is x
