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
    """run((w, g, m, v, top), lr, beta1, beta2, eps, weight_decay, decoupled, step)."""
    multiply, add, subtract, divide, sqrt, maximum = xp.multiply, xp.add, xp.subtract, xp.divide, xp.sqrt, xp.maximum

    def block(scratch, w, g, m, v, top, lr, beta1, beta2, eps, weight_decay, decoupled, step):
        if weight_decay:
            if decoupled:
                multiply(w, 1 - lr * weight_decay, w)
            else:
                g = multiply(w, weight_decay, xp.empty_like(scratch)) + g
        multiply(g, 1 - beta1, scratch)
        multiply(m, beta1, m)
        add(m, scratch, m)
        multiply(g, g, scratch)
        multiply(scratch, 1 - beta2, scratch)
        multiply(v, beta2, v)
        add(v, scratch, v)
        if top is not None:
            v = maximum(top, v, out=top)
        # lr/(1-b1^t) m / (sqrt(v)/c + eps) = lr c/(1-b1^t) m / (sqrt(v) + c eps) with c = sqrt(1-b2^t): one pass less
        correction = math.sqrt(1 - beta2 ** step)
        sqrt(v, scratch)
        add(scratch, eps * correction, scratch)
        divide(m, scratch, scratch)
        multiply(scratch, lr * correction / (1 - beta1 ** step), scratch)
        subtract(w, scratch, w)

    return in_blocks(xp, block)
