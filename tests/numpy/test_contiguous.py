"""Arrays in C order: what kernels that are told no strides ask for."""
import numpy as np
import pytest

import gpugrad as gg


@pytest.mark.parametrize("view", [lambda x: x.T, lambda x: x[::-1], lambda x: x[:, ::2], lambda x: x[1:, :3].T, lambda x: x])
def test_ascontiguousarray_lies_in_c_order_and_keeps_the_graph(view):
    x = gg.tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    y = gg.ascontiguousarray(view(x))
    assert y.data.flags.c_contiguous
    np.testing.assert_array_equal(y.detach().numpy(), view(np.arange(12.0).reshape(3, 4)))
    gg.sum(y * y).backward()
    wanted = np.zeros((3, 4))
    view(wanted)[...] = 2 * y.detach().numpy()
    np.testing.assert_array_equal(x.grad.numpy(), wanted)
