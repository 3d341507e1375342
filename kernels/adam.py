"""One step of Adam or AdamW on one parameter, in place.

g = g + weight_decay w                       (Adam; AdamW shrinks w by lr weight_decay instead)
m = b1 m + (1 - b1) g
v = b2 v + (1 - b2) g^2
w = w - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps);  with AMSGrad the largest v so far stands in the root

w, g, m, v, top of one shape, contiguous; top is None without AMSGrad. g is read only.
"""
from __future__ import annotations

import math

from gpugrad.kernels.blocks import in_blocks


def adam(xp):
    multiply, add, subtract, divide, sqrt, maximum = xp.multiply, xp.add, xp.subtract, xp.divide, xp.sqrt, xp.maximum

    def block(scratch, w, g, m, v, top, lr, beta1, beta2, eps, weight_decay, decoupled, step):
        if weight_decay:
            if decoupled:
                multiply(w, 1 - lr * weight_decay, out=w)
            else:
                g = multiply(w, weight_decay, out=xp.empty_like(scratch)) + g
        multiply(g, 1 - beta1, out=scratch)
        multiply(m, beta1, out=m)
        add(m, scratch, out=m)
        multiply(g, g, out=scratch)
        multiply(scratch, 1 - beta2, out=scratch)
        multiply(v, beta2, out=v)
        add(v, scratch, out=v)
        if top is not None:
            v = maximum(top, v, out=top)
        # lr/(1-b1^t) m / (sqrt(v)/c + eps) = lr c/(1-b1^t) m / (sqrt(v) + c eps) with c = sqrt(1-b2^t): one pass less
        correction = math.sqrt(1 - beta2 ** step)
        sqrt(v, out=scratch)
        add(scratch, eps * correction, out=scratch)
        divide(m, scratch, out=scratch)
        multiply(scratch, lr * correction / (1 - beta1 ** step), out=scratch)
        subtract(w, scratch, out=w)

    return in_blocks(xp, block)
