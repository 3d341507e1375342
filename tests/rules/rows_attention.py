"""Attention and its pullback, written out in NumPy."""
import numpy as np
from rows import Row


def scores(q, k, scale, causal):
    s = scale * q @ k.swapaxes(-1, -2)
    return np.where(np.tri(*s.shape[-2:]) > 0, s, -np.inf) if causal else s


def attention(q, k, v, scale, causal=False):
    s = scores(q, k, scale, causal)
    lse = np.log(np.sum(np.exp(s), axis=-1))
    return np.exp(s - lse[..., None]) @ v, lse


def attention_pull(g, q, k, v, o, lse, scale, causal=False):
    p = np.exp(scores(q, k, scale, causal) - lse[..., None])
    u = scale * p * (g @ v.swapaxes(-1, -2) - np.sum(g * o, axis=-1, keepdims=True))
    return u @ k, u.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g


def qkv(*lead, length=4, keys=5, width=3, values=2):
    return lambda rng: (rng.normal(size=(*lead, length, width)), rng.normal(size=(*lead, keys, width)),
                        rng.normal(size=(*lead, keys, values)))


def pulled(*lead, length=4, keys=5, width=3, values=2):
    """lse may be anything that keeps exp(s - lse) small: it is an input like others."""
    def args(rng):
        q, k, v = qkv(*lead, length=length, keys=keys, width=width, values=values)(rng)
        g, o = (rng.normal(size=(*lead, length, values)) for _ in range(2))
        return g, q, k, v, o, 2 + rng.normal(size=(*lead, length))
    return args


CASES = [("", (), {}, {"scale": 0.7}), ("causal", (), {}, {"scale": 0.7, "causal": True}),
         ("heads", (2, 3), {"length": 5, "keys": 4}, {"scale": 1.0, "causal": True}), ("none", (0,), {}, {"scale": 1.0})]
ROWS = [
    *[Row("attention", label=label, args=qkv(*lead, **sizes), params=params, ref=attention)
      for label, lead, sizes, params in CASES],
    *[Row("attention_pull", label=label, args=pulled(*lead, **sizes), params=params, ref=attention_pull)
      for label, lead, sizes, params in CASES],
    Row("causal_mask", shapes=[(3, 4), (2, 4, 3), (0, 2, 2)], keeps_dtype=False,
        ref=lambda s: np.broadcast_to(np.tri(*s.shape[-2:]) > 0, s.shape)),
]
