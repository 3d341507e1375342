"""Dropout on the simulated device: the mask of the CPU, in one launch each way."""
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.kernels.record import recording


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(7,), (3, 100), (4, 256), (2, 5, 131), (0, 3)])
def test_the_same_elements_are_dropped_as_on_the_cpu(shape, dtype):
    results = []
    for device in ("sim", "cpu"):
        x = gg.tensor(np.random.default_rng(0).standard_normal(shape).astype(dtype), device=device, requires_grad=True)
        own = gg.random.generator(5)
        y = gg.dropout(gg.dropout(x, 0.3, generator=own), 0.6, generator=own)
        y.backward(gg.ones_like(y))
        results.append((y.detach().numpy(), x.grad.numpy(), own.state_dict()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3 if dtype == "float16" else 1e-6) if isinstance(a, np.ndarray) else None
        assert isinstance(a, np.ndarray) or a == b


def test_it_is_one_launch_each_way_and_no_mask_is_kept_or_sent():
    x = gg.tensor(np.ones((16, 64), "f"), device="sim", requires_grad=True)
    with gg.profile() as p:
        y = gg.dropout(x, 0.5)
    assert [n.name.split("<")[0] for n in p.launches] == ["dropout"] and p.syncs == 0
    g = gg.ones_like(y)
    with recording() as log:
        y.backward(g)
    assert [n.name.split("<")[0] for n in log.launches] == ["dropout"]
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
