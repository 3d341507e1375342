"""Check the checker: small changes to a correct kernel, each of which must be diagnosed or change the numbers."""

import numpy as np
import pytest

from gpugrad.cudasim import ArgumentError, BarrierDivergence, OutOfBounds, Race, Uninitialised, WarpDivergence

LAYER_NORM = r"""
extern "C" __global__ void layer_norm(float* y, const float* x, const float* gain, int cols) {
  __shared__ float parts[4];
  __shared__ float row[256];
  const float* in = x + blockIdx.x * cols;
  float* out = y + blockIdx.x * cols;
  int t = threadIdx.x, lane = t & 31, warp = t >> 5;
  float sum = 0;
  for (int c = t; c < cols; c += blockDim.x) { row[c] = in[c]; sum += in[c]; }
  for (int k = 16; k; k >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, k);
  if (lane == 0) parts[warp] = sum;
  __syncthreads();
  float mean = (parts[0] + parts[1] + parts[2] + parts[3]) / cols;
  __syncthreads();
  float square = 0;
  for (int c = t; c < cols; c += blockDim.x) { float d = row[c] - mean; square += d * d; }
  for (int k = 16; k; k >>= 1) square += __shfl_xor_sync(0xffffffffu, square, k);
  if (lane == 0) parts[warp] = square;
  __syncthreads();
  float scale = rsqrtf((parts[0] + parts[1] + parts[2] + parts[3]) / cols + 1e-5f);
  for (int c = cols - 1 - t; c >= 0; c -= blockDim.x) out[c] = (row[c] - mean) * scale * gain[c];
}"""
SYNC = "  __syncthreads();\n"

# what is changed: the diagnosis (None: the numbers alone are wrong), the text before and after
MUTANTS = {
    "first barrier missing": (Race, "parts[warp] = sum;\n" + SYNC, "parts[warp] = sum;\n"),
    "barrier before the parts are used again missing": (Race, "/ cols;\n" + SYNC, "/ cols;\n"),
    "last barrier missing": (Race, "parts[warp] = square;\n" + SYNC, "parts[warp] = square;\n"),
    "barrier in a branch": (Race, "parts[warp] = sum;\n" + SYNC, "parts[warp] = sum;\n  if (t < 64) __syncthreads();\n"),
    "loop one too long": (OutOfBounds, "c < cols; c += blockDim.x) { row", "c <= cols; c += blockDim.x) { row"),
    "second loop one too long": (Uninitialised, "c < cols; c += blockDim.x) { float", "c <= cols; c += blockDim.x) { float"),
    "loop one too short": (Uninitialised, "c < cols; c += blockDim.x) { row", "c < cols - 1; c += blockDim.x) { row"),
    "stride too small": (None, "c += blockDim.x) { row", "c += blockDim.x / 2) { row"),
    "backward loop one too far": (OutOfBounds, "c >= 0;", "c >= -1;"),
    "half of the butterfly": (None, "for (int k = 16; k; k >>= 1) sum", "for (int k = 8; k; k >>= 1) sum"),
    "half of the mask": (WarpDivergence, "__shfl_xor_sync(0xffffffffu, sum", "__shfl_xor_sync(0x0000ffffu, sum"),
    "shuffle in a branch": (WarpDivergence,
                            "for (int k = 16; k; k >>= 1) square", "if (t < 112) for (int k = 16; k; k >>= 1) square"),
    "every lane stores its own sum": (Race, "if (lane == 0) parts[warp] = sum;", "parts[warp] = sum + lane;"),
    "wrong lane stores": (OutOfBounds, "if (lane == 0) parts[warp] = square;", "if (lane == 1) parts[warp + 1] = square;"),
    "part too few": (None, "(parts[0] + parts[1] + parts[2] + parts[3]) / cols;", "(parts[0] + parts[1] + parts[2]) / cols;"),
    "part too many": (OutOfBounds, "parts[2] + parts[3]) / cols;", "parts[2] + parts[3] + parts[4]) / cols;"),
    "shared row too short": (OutOfBounds, "row[256]", "row[128]"),
    "row by blocks of threads": (None, "x + blockIdx.x * cols", "x + blockIdx.x * blockDim.x"),
    "gain by vectors": (None, "* gain[c]", "* reinterpret_cast<const float4*>(gain + 1)[c / 4].x"),
    "columns unwritten in shared memory": (Uninitialised, "{ row[c] = in[c];", "{ if (c & 1) row[c] = in[c];"),
    "early return": (BarrierDivergence, "  float sum = 0;", "  if (t >= cols - 128) return;\n  float sum = 0;"),
    "integer for a pointer": (ArgumentError, "const float* gain, int cols", "int cols, const float* gain"),
    "wider scalar": (ArgumentError, "int cols", "long long cols"),
    "float scalar": (ArgumentError, "int cols", "float columns"),
}


def launch(module, source):
    rng = np.random.default_rng(5)
    x, gain = rng.standard_normal((6, 200)).astype(np.float32), rng.standard_normal(200).astype(np.float32)
    y = np.zeros_like(x)
    module(source)["layer_norm"].launch(6, 128, (y, x, gain, np.int32(200)))
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * gain
    return np.abs(y - exact).max()


def test_the_kernel_itself_is_right(module):
    assert launch(module, LAYER_NORM) < 1e-5


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(module, name):
    diagnosis, old, new = MUTANTS[name]
    assert LAYER_NORM.count(old) == 1
    source = LAYER_NORM.replace(old, new)
    if "float columns" in new:
        source = source.replace("float columns) {", "float columns) {\n  int cols = columns;")
    if diagnosis is None:
        error = launch(module, source)
        assert not error < 1e-3
    else:
        with pytest.raises(diagnosis, match=r"^layer_norm: "):
            launch(module, source)
