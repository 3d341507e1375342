"""W7b: a full Hessian, (100, 100), of Rosenbrock's function: all columns at once where the library can."""

import numpy as np

from gpugrad.bench.case import Case


def rosenbrock(x):
    """sum_i 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2, in operators."""
    r = x[1:] - x[:-1] * x[:-1]
    q = 1 - x[:-1]
    return (100 * (r * r) + q * q).sum()


CASE = Case(
    name="w07b_hessian",
    title="Hessian of the 100-dimensional Rosenbrock function, float64",
    params={"n": 100},
    small={"n": 5},
    inputs=lambda p, rng: {"x": rng.uniform(-1.5, 1.5, p.n)},
    outputs=("hessian",),
    dtype="float64",
    terms=lambda d: 16,
    bytes=lambda d: 8 * d.n * d.n,
)


@CASE.variant("gpugrad", "gpugrad-flat", "gpugrad-compile")
def gpugrad_hessian(peer, d):
    hessian, x = peer.compile(peer.module.hessian(rosenbrock)), peer.array(d.x)
    return lambda: hessian(x)


@CASE.variant("numpy")
def numpy_hessian(peer, d):
    """The gradient by hand, differentiated along all unit vectors together: row k of r_ is the tangent of r along e_k.
    That the Hessian has three diagonals is not used: no library knows it.
    """
    x, basis = d.x, np.eye(d.n)

    def step():
        low = x[:-1]
        r = x[1:] - low * low
        low_ = basis[:, :-1]
        r_ = basis[:, 1:] - 2 * low * low_
        h = np.zeros((d.n, d.n))
        h[:, 1:] = 200 * r_
        h[:, :-1] += 2 * low_ - 400 * (r_ * low + r * low_)
        return h

    return step


@CASE.variant("numpy-kept")
def numpy_kept_hessian(peer, d):
    x, basis = d.x, np.eye(d.n)
    low, low_, high_ = x[:-1], basis[:, :-1], basis[:, 1:]
    h = np.zeros((d.n, d.n))
    r, two = np.empty_like(low), np.empty_like(low)
    r_, t = np.empty_like(low_), np.empty_like(low_)

    def step():
        np.multiply(low, low, out=r)
        np.subtract(x[1:], r, out=r)
        np.multiply(low, -2, out=two)
        np.multiply(low_, two, out=r_)
        np.add(r_, high_, out=r_)
        h[:, 0] = 0
        np.multiply(r_, 200, out=h[:, 1:])
        np.multiply(two, 200, out=two)
        np.multiply(r_, two, out=r_)
        np.multiply(r, -400, out=r)
        np.add(r, 2, out=r)
        np.multiply(low_, r, out=t)
        np.add(r_, t, out=r_)
        np.add(h[:, :-1], r_, out=h[:, :-1])
        return h

    return step


@CASE.variant("torch", "torch-compile")
def torch_hessian(peer, d):
    hessian, x = peer.compile(peer.module.func.hessian(rosenbrock)), peer.array(d.x)
    return lambda: hessian(x)


@CASE.variant("jax")
def jax_hessian(peer, d):
    hessian, x = peer.compile(peer.module.hessian(rosenbrock)), peer.array(d.x)
    return lambda: hessian(x)


@CASE.variant("autograd")
def autograd_hessian(peer, d):
    anp = peer.module.numpy

    def f(x):
        r = x[1:] - x[:-1] * x[:-1]
        q = 1 - x[:-1]
        return anp.sum(100 * (r * r) + q * q)

    hessian = peer.module.hessian(f)
    return lambda: hessian(d.x)


@CASE.variant("pytensor")
def pytensor_hessian(peer, d):
    """All rows at once: the gradient's derivative along each unit vector, as a batch."""
    gradient = peer.module.gradient
    return peer.step(lambda x: gradient.jacobian(peer.module.grad(rosenbrock(x), x), x, vectorize=True), d.x)
