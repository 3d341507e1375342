"""Arrays of more than 2^31 elements: the last blocks of a huge grid run where no page but theirs is ever touched.

The memory is reserved, not allocated: a page exists once it is written. Only blocks at the far end run; had an index been of 32
bits, they would read and write at the front, or nowhere.
"""
import mmap

import numpy as np
import pytest

from gpugrad.cudasim import Checks, OutOfBounds, address, compile_cuda
from gpugrad.errors import ArgumentError
from gpugrad.kernels import geometry
from gpugrad.kernels.launch import grid_for
from tests.kernels.cu_support import C_NAMES, compiled

COLUMNS, BEYOND = 1024, 2**31
ROWS = BEYOND // COLUMNS + 8
N = BEYOND + 4099                                          # a tail behind the packs
CHECKS = Checks(counters=False, races=False)               # both keep a byte for each byte
RNG = np.random.default_rng(5)
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)        # Linux: no memory is set aside; Python names it from 3.13 on


def reserved(shape, dtype="float16"):
    """Zeros that take no memory until they are written."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), dtype).reshape(shape)


def run(file, kernel, targs, grid, block, args, only):
    spelled = [str(C_NAMES.get(t, t)) if not isinstance(t, bool) else str(t).lower() for t in targs]
    name = f"{kernel}<{', '.join(spelled)}>"
    compiled(file, "sm_90", (name,))[name].launch(grid, block, args, checks=CHECKS, only=only)


def draw(*shape):
    return RNG.standard_normal(shape).astype("f2")


def tail_of(n=N):
    x = reserved(n)
    x[-4000:] = draw(4000)
    return x


def last_rows(count=8):
    x = reserved((ROWS, COLUMNS))
    x[-count:] = draw(count, COLUMNS)
    return x


@pytest.mark.parametrize("width", [8, 1])
def test_elementwise_kernels_end_where_the_array_ends(width):
    x, y, dx = tail_of(), reserved(N), reserved(N)
    grid = geometry.flat_grid(N, width)
    only = range(grid - 4000 // width // 256 - 3, grid)
    run("relu.cu", "relu", ("float16", width), grid, 256, (x, y, N), only)
    np.testing.assert_array_equal(y[-3000:], np.maximum(x[-3000:], 0))
    run("relu.cu", "relu_pull", ("float16", width), grid, 256, (x, y, dx, N), only)
    np.testing.assert_array_equal(dx[-3000:], y[-3000:])
    run("gelu.cu", "gelu", ("float16", width, True), grid, 256, (x, y, N), only)
    assert np.abs(y[-3000:] - np.maximum(x[-3000:], 0)).max() < 0.2 and y[-3000:].min() < 0


def test_rows_far_out_are_normalised():
    x, y = last_rows(), reserved((ROWS, COLUMNS))
    run("softmax.cu", "softmax_row", ("float16", 8, 2, False), ROWS, (64, 1), (x, y, ROWS, np.int32(COLUMNS)),
        range(ROWS - 8, ROWS))
    e = np.exp(x[-8:].astype("f8"))
    np.testing.assert_allclose(y[-8:], e / e.sum(axis=1, keepdims=True), rtol=2e-3, atol=1e-6)
    mean, rstd = (reserved(ROWS, "float32") for _ in range(2))
    run("layer_norm.cu", "layer_norm_row", ("float16", 8, 2), ROWS, (64, 1),
        (x, None, None, None, y, None, mean, rstd, ROWS, np.int32(COLUMNS), 1e-5, True), range(ROWS - 8, ROWS))
    rows = x[-8:].astype("f8")
    np.testing.assert_allclose(mean[-8:], rows.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(y[-8:], (rows - mean[-8:, None]) / rows.std(axis=1, keepdims=True), atol=4e-3)


def test_bias_relu_and_its_mask_reach_the_last_row():
    x, y, dx, b = last_rows(), reserved((ROWS, COLUMNS)), reserved((ROWS, COLUMNS)), draw(COLUMNS)
    mask, tiles = reserved((ROWS, COLUMNS // 32), "uint32"), COLUMNS // 256
    grid = ROWS // 8 * tiles
    run("relu.cu", "bias_relu", ("float16", 8), grid, (32, 8), (x, b, y, mask, ROWS, np.int32(COLUMNS)),
        range(grid - tiles, grid))
    np.testing.assert_array_equal(y[-8:], np.maximum((x[-8:].astype("f4") + b).astype("f2"), 0))
    each = 40                                              # rows a slice, of 65535 slices at most
    last = (ROWS - 1) // each
    run("relu.cu", "bias_relu_pull", ("float16", 8), (tiles, last + 1), (32, 8),
        (x, mask, dx, None, None, None, ROWS, np.int32(COLUMNS), each, False), range(tiles * last, tiles * (last + 1)))
    np.testing.assert_array_equal(dx[-8:], np.where(y[-8:] > 0, x[-8:], 0))


def test_rows_far_out_are_summed():
    x, y = last_rows(), reserved(ROWS)
    run("reduce.cu", "sum_last", ("float16", 8), ROWS // 8, (32, 8), (x, y, None, None, ROWS, COLUMNS, COLUMNS, 1.0, False),
        range(ROWS // 8 - 1, ROWS // 8))
    np.testing.assert_allclose(y[-8:], x[-8:].astype("f8").sum(axis=1), atol=0.05)


def test_gradients_are_scattered_to_rows_far_out():
    out, g = reserved((ROWS, COLUMNS)), draw(32, COLUMNS)
    keys = np.sort(np.repeat(np.array([0, ROWS // 2, ROWS - 2, ROWS - 1]), 8))
    run("scatter.cu", "scatter_chunks", ("float16", 8, "long long"), (1, COLUMNS // 256), (32, 8),
        (g, keys, None, out, np.zeros((2, 1, COLUMNS), "f4"), 32, COLUMNS, ROWS), None)
    for k, key in enumerate((0, ROWS // 2, ROWS - 2, ROWS - 1)):
        np.testing.assert_allclose(out[key], g[8 * k:8 * k + 8].astype("f8").sum(axis=0), atol=0.02)


def test_a_product_of_matrices_with_huge_leading_dimensions():
    m = n = k = 64
    lead = BEYOND // 32                                     # the last row starts at 63/32 of 2^31
    a, b, d = reserved((m, lead)), draw(k, n), reserved((m, lead))
    a[:, :k] = draw(m, k)
    run("gemm.cu", "gemm", ("float16", 8, False, False, 0), (1, 1, 1), 256,
        (a, b, None, d, None, None, m, n, k, lead, n, lead, 0, 0, 0, np.uint32(1), 0, 0, 0, k, 1.0, 0.0), None)
    np.testing.assert_allclose(d[:, :n], a[:, :k].astype("f8") @ b.astype("f8"), atol=0.05)


def test_the_optimiser_reaches_a_tensor_at_the_end_of_a_huge_arena():
    start, length = BEYOND, 1000
    w, m, v = (reserved(start + 1024, "float32") for _ in range(3))
    g = RNG.standard_normal(length).astype("f4")
    w[start:start + length] = 1
    few = np.zeros(256, np.uint64)
    few[1] = address(g)
    table = np.array([0, start, start + 1024]), np.array([start, length])
    run("optim.cu", "adam", ("float32", 4), start // 1024 + 1, 256,
        (None, few.tobytes(), *table, np.array([0.1]), w, m, v, None, np.array([0]), np.zeros(1, np.uint32), np.int32(2), 0.9,
         0.999, 1e-8, 0.0, False), range(start // 1024, start // 1024 + 1))
    np.testing.assert_allclose(w[start:start + length], 1 - 0.1 * np.sign(g), atol=1e-4)


def test_an_index_of_32_bits_would_be_seen():
    source = "__global__ void narrow(const short* x, short* y) { int i = blockIdx.x * blockDim.x + threadIdx.x; y[i] = x[i]; }"
    x, y, grid = reserved(N), reserved(N), N // 256
    with pytest.raises(OutOfBounds, match="narrow"):
        compile_cuda(source, names=("narrow",))["narrow"].launch(grid, 256, (x, y), checks=CHECKS, only=range(grid - 1, grid))


def test_grids_for_such_arrays_are_within_cudas_limits():
    for n in (BEYOND + 7, 2**36):
        assert 0 < geometry.flat_grid(n, 4) < 2**31
        assert geometry.flat_grid(n, 4) * 256 * 4 >= n
    slices, size = geometry.row_slices(2**33, 8, 264)
    assert slices <= 264 and slices * size >= 2**33
    with pytest.raises(ArgumentError):
        grid_for(2**40, 256)
