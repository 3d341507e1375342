"""Attention: (o, lse). The pullback makes the scores again; the derivatives of both are products, so every order exists."""
import math

from gpugrad.graph.primitive import Primitive, constant
from gpugrad.kernels import attention
from gpugrad.rules.fused import by_rows, column, plus


def turned(m, x):
    return m.swapaxes(x, axis1=x.ndim - 2, axis2=x.ndim - 1)


def weights(m, q, k, lse, scale, causal):
    """p = exp(scale q k' - lse), 0 where causal hides a key."""
    s = m.matmul(q, turned(m, k)) * scale - column(m, lse)
    return m.exp(m.where(m.causal_mask(s), s, -math.inf) if causal else s)


def last(m, x, keepdims=False):
    """The sum over the last axis."""
    return m.sum(x, axis=(x.ndim - 1,), keepdims=keepdims)


def cast_like(m, xs, likes):
    """Each in the dtype of its like: lse is float32 beside float16."""
    return tuple([None if x is None else m.cast(x, like.dtype) for x, like in zip(xs, likes, strict=True)])


def attention_vjp(m, g, want, y, q, k, v, scale, causal=False):
    (go, gl), (o, lse) = g, y
    dq, dk, dv = (None,) * 3 if go is None else m.attention_pull(go, q, k, v, o, lse, scale=scale, causal=causal)
    if gl is not None:                                                       # lse moves by p along the scores
        u = weights(m, q, k, lse, scale, causal) * column(m, gl) * scale
        dq, dk = plus(dq, m.cast(m.matmul(u, k), q.dtype)), plus(dk, m.cast(m.matmul(turned(m, u), q), k.dtype))
    return dq, dk, dv


def attention_jvp(m, ts, y, q, k, v, scale, causal=False):
    (tq, tk, tv), (o, lse) = ts, y
    p = weights(m, q, k, lse, scale, causal)
    pt = moved_scores(m, tq, tk, q, k, scale)
    if pt is None:
        return m.cast(m.matmul(p, tv), o.dtype), None
    pt = p * pt
    share = last(m, pt)
    to = plus(m.matmul(pt, v), -o * column(m, share), None if tv is None else m.matmul(p, tv))
    return cast_like(m, (to, share), y)


def moved_scores(m, tq, tk, q, k, scale):
    total = plus(None if tq is None else m.matmul(tq, turned(m, k)), None if tk is None else m.matmul(q, turned(m, tk)))
    return None if total is None else total * scale


def attention_pull_vjp(m, h, want, y, g, q, k, v, o, lse, scale, causal=False):
    """With r = g v' - d, u = scale p r and the cotangents a, b, c of dq = u k, dk = u' q, dv = p' g."""
    a, b, c = h
    p = weights(m, q, k, lse, scale, causal)
    r = m.matmul(g, turned(m, v)) - column(m, last(m, g * o))
    u = p * r * scale
    hu = moved_scores(m, a, b, q, k, scale)                                  # scale times the cotangent of u
    hp = plus(None if c is None else m.matmul(g, turned(m, c)), None if hu is None else r * hu)
    hs = p * hp                                                              # of scale q k' - lse
    hr = None if hu is None else p * hu
    hd = None if hu is None else last(m, hr, keepdims=True)                  # of -d
    return cast_like(m, (
        plus(None if c is None else m.matmul(p, c), None if hu is None else m.matmul(hr, v) - o * hd),
        plus(m.matmul(hs, k) * scale, None if b is None else m.matmul(u, b)),
        plus(m.matmul(turned(m, hs), q) * scale, None if a is None else m.matmul(turned(m, u), a)),
        None if hu is None else m.matmul(turned(m, hr), g),
        None if hu is None else -g * hd,
        -last(m, hs)), (g, q, k, v, o, lse))


def attention_pull_jvp(m, ts, y, g, q, k, v, o, lse, scale, causal=False):
    tg, tq, tk, tv, to, tl = ts
    p = weights(m, q, k, lse, scale, causal)
    r = m.matmul(g, turned(m, v)) - column(m, last(m, g * o))
    u = p * r * scale
    move = plus(moved_scores(m, tq, tk, q, k, scale), None if tl is None else -column(m, tl))
    tp = None if move is None else p * move
    td = plus(None if tg is None else last(m, tg * o), None if to is None else last(m, g * to))
    tr = plus(None if tg is None else m.matmul(tg, turned(m, v)), None if tv is None else m.matmul(g, turned(m, tv)),
              None if td is None else -column(m, td))
    tu = plus(None if tp is None else tp * r * scale, None if tr is None else p * tr * scale)
    return cast_like(m, (
        plus(None if tu is None else m.matmul(tu, k), None if tk is None else m.matmul(u, tk)),
        plus(None if tu is None else m.matmul(turned(m, tu), q), None if tq is None else m.matmul(turned(m, u), tq)),
        plus(None if tp is None else m.matmul(turned(m, tp), g), None if tg is None else m.matmul(turned(m, p), tg))), y)


Primitive("attention", attention_vjp, attention_jvp, outputs=2, keep="y q k v", batch=by_rows("attention"),
          impl=attention.attention)
Primitive("attention_pull", attention_pull_vjp, attention_pull_jvp, outputs=3, keep="g q k v o lse",
          batch=by_rows("attention_pull"), impl=attention.attention_pull)
constant("causal_mask", impl=attention.causal_mask)
