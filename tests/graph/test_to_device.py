"""A graph may go over several devices: gradients come back the way the values went."""
import numpy as np
import pytest

import gpugrad as gg

pytestmark = pytest.mark.usefixtures("nvrtc")


def there_and_back(x):
    y = (x * x).to("sim")
    return ((gg.sin(y) * y).to("sim:1").to("cpu") * x).sum()


def at_home(x):
    y = x * x
    return (gg.sin(y) * y * x).sum()


def test_gradients_come_back_to_where_their_leaves_are():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    w = gg.tensor([3.0, 4.0], requires_grad=True, device="sim")
    b = gg.tensor([5.0, 6.0], requires_grad=True, device="sim:1")
    (x * w.to("cpu") * b.to("sim").to("cpu")).sum().backward()
    assert [t.grad.device for t in (x, w, b)] == [gg.device("cpu"), gg.device("sim"), gg.device("sim:1")]
    np.testing.assert_array_equal(x.grad.numpy(), [15, 24])
    np.testing.assert_array_equal(w.grad.cpu().numpy(), [5, 12])
    np.testing.assert_array_equal(b.grad.cpu().numpy(), [3, 8])


def test_every_mode_goes_along():
    x, v = np.array([0.4, 1.2]), np.array([1.0, -0.5])
    np.testing.assert_allclose(gg.grad(there_and_back)(x), gg.grad(at_home)(x), rtol=1e-12)
    np.testing.assert_allclose(gg.jvp(there_and_back, (x,), (v,))[1], gg.jvp(at_home, (x,), (v,))[1], rtol=1e-12)
    np.testing.assert_allclose(gg.hvp(there_and_back, x, v), gg.hvp(at_home, x, v), rtol=1e-12)
    np.testing.assert_allclose(gg.hessian(there_and_back)(x), gg.hessian(at_home)(x), rtol=1e-12)
    rows = np.stack([x, v])
    np.testing.assert_allclose(gg.vmap(there_and_back)(rows), gg.vmap(at_home)(rows), rtol=1e-12)


def test_no_copy_where_it_is_there_already():
    x = gg.tensor([1.0], requires_grad=True)
    assert x.to("cpu") is x


def test_a_program_stays_on_one_device():
    with pytest.raises(gg.TraceError, match=r"on one device, got \.to\('sim:0'\) at .*test_to_device"):
        gg.compile(there_and_back)(gg.tensor([1.0, 2.0]))
