"""One step of stochastic gradient descent on one parameter, in place.

d = g + weight_decay w
v = momentum v + (1 - dampening) d           (v = d at the first step)
w = w - lr (d + momentum v  if nesterov, else v;  d without momentum)

w, g, v of one shape, contiguous; v is None without momentum. g is read only. `sgd(xp)` is the function on arrays of xp.
A large array is stepped through block by block, so that w, g and v travel once between memory and cache.
"""
from __future__ import annotations

from gpugrad.kernels.blocks import in_blocks


def sgd(xp):
    """run((w, g, v), lr, momentum, dampening, weight_decay, nesterov, first)."""
    multiply, add, subtract = xp.multiply, xp.add, xp.subtract

    def block(scratch, w, g, v, lr, momentum, dampening, weight_decay, nesterov, first):
        if weight_decay:
            multiply(w, weight_decay, scratch)
            g = add(scratch, g, scratch)
        if v is None:
            multiply(g, lr, scratch)
        else:
            if first:
                v[...] = g
            elif dampening:
                # (g / momentum scale) would lose bits where momentum is tiny: the damped gradient is added as it is.
                multiply(v, momentum, v)
                v += g * (1 - dampening)
            else:
                multiply(v, momentum, v)
                add(v, g, v)
            if nesterov:
                if g is scratch:
                    scratch += v * momentum
                else:
                    multiply(v, momentum, scratch)
                    add(scratch, g, scratch)
                multiply(scratch, lr, scratch)
            else:
                multiply(v, lr, scratch)
        subtract(w, scratch, w)

    return in_blocks(xp, block)
