"""Operations of neural networks, written out in NumPy and SciPy."""
import numpy as np
import scipy.special as special
from rows import Row, normal, positive

from gpugrad.kernels.dropout import keep

ROOT = np.sqrt(2 / np.pi)


def split_at_zero(rng, shape):
    """Of either sign, away from the kink at 0."""
    return rng.uniform(0.1, 2, size=shape) * rng.choice([-1.0, 1.0], size=shape)


def wide(rng, shape):
    """Where exp alone would overflow float32, and where results round to 0 and 1."""
    return rng.uniform(-120, 120, size=shape)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(ROOT * (x + 0.044715 * x ** 3)))


def gelu_tanh_slope(x):
    u, du = ROOT * (x + 0.044715 * x ** 3), ROOT * (1 + 3 * 0.044715 * x ** 2)
    return 0.5 * (1 + np.tanh(u)) + 0.5 * x * du / np.cosh(u) ** 2


def silu_slope(x):
    s = special.expit(x)
    return s + x * s * (1 - s)


def softmax_pull(g, y, axis):
    return y * (g - np.sum(g * y, axis=axis, keepdims=True))


def target(p, labels, smoothing):
    classes = p.shape[-1]
    return (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes


def cross_entropy(x, labels, smoothing=0.0):
    log_p = special.log_softmax(x, axis=-1)
    return -np.sum(target(x, labels, smoothing) * log_p, axis=-1), np.exp(log_p)


def cross_entropy_pull(g, p, labels, smoothing=0.0):
    return g[..., None] * (p - target(p, labels, smoothing))


def mean_cross_entropy(x, labels, smoothing=0.0):
    loss, p = cross_entropy(x, labels, smoothing)
    return np.mean(loss), (p - target(p, labels, smoothing)) / labels.size


def cross_entropy_push(s, p, labels, smoothing=0.0):
    return np.sum((p - target(p, labels, smoothing)) * s, axis=-1)


def standardize(x, axis, eps, centre=True):
    mean = x.mean(axis=axis, keepdims=True) * centre
    r = 1 / np.sqrt(np.mean((x - mean) ** 2, axis=axis, keepdims=True) + eps)
    return (x - mean) * r, r, mean


def standardize_pull(g, n, r, axis, centre=True):
    return r * (g - centre * g.mean(axis=axis, keepdims=True) - n * np.mean(g * n, axis=axis, keepdims=True))


def layer_norm(x, w=1, b=0, axes=1, eps=1e-3, centre=True):
    n, r, mean = standardize(x, tuple(range(x.ndim - axes, x.ndim)), eps, centre)
    return n * w + b, mean, r


def add_layer_norm(x, residual, w=1, b=0, **how):
    y, mean, r = layer_norm(x + residual, w, b, **how)
    return y, x + residual, mean, r


def layer_norm_pull(g, x, w, mean, r, axes=1, centre=True):
    front, over = tuple(range(x.ndim - axes)), tuple(range(x.ndim - axes, x.ndim))
    n = (x - mean) * r
    return standardize_pull(g * w, n, r, over, centre), np.sum(g * n, axis=front), np.sum(g, axis=front)


def linear_relu(x, w, b=0):
    y = np.maximum(x @ w.T + b, 0)
    opened = np.zeros((y.size // len(w), -(-len(w) // 32) * 32), bool)
    opened[:, :len(w)] = y.reshape(-1, len(w)) > 0
    return y, np.packbits(opened, axis=-1, bitorder="little").view(np.uint32)


def scaled_rows(*shape, axes=1, weights=2):
    return lambda rng: (rng.normal(size=shape), *(rng.normal(size=shape[-axes:]) for _ in range(weights)))


def added_rows(*shape, **how):
    rows = scaled_rows(*shape, **how)
    return lambda rng: (rng.normal(size=shape), *rows(rng))


def normalised(*shape, axes=1):
    def args(rng):
        x = rng.normal(size=shape)
        _, r, mean = standardize(x, tuple(range(x.ndim - axes, x.ndim)), 1e-3)
        return rng.normal(size=shape), x, rng.normal(size=shape[-axes:]), mean, r
    return args


def logits(*shape, classes=4):
    return lambda rng: (rng.normal(size=(*shape, classes)), rng.integers(0, classes, size=shape))


def with_cotangent(*shape, classes=4):
    return lambda rng: (rng.normal(size=shape), special.softmax(rng.normal(size=(*shape, classes)), axis=-1),
                        rng.integers(0, classes, size=shape))


def with_tangent(*shape, classes=4):
    return lambda rng: (rng.normal(size=(*shape, classes)), special.softmax(rng.normal(size=(*shape, classes)), axis=-1),
                        rng.integers(0, classes, size=shape))


def layer(*lead, into=3, out=4, bias=True):
    return lambda rng: (rng.normal(size=(*lead, into)), rng.normal(size=(out, into)), *([rng.normal(size=out)] if bias else []))


def standardized(rng):
    n, r, _ = standardize(rng.normal(size=(3, 5)), (1,), 1e-3)
    return rng.normal(size=(3, 5)), n, r


def over_axes(name, ref, inputs=1):
    """The rows of an operation along axes: the last, another, two."""
    return [
        Row(name, label="last", sample=(normal,) * inputs, shapes=[(3, 4), (2, 3), (0, 2)], params={"axis": (1,)}, ref=ref),
        Row(name, label="first", sample=(normal,) * inputs, shapes=[(3, 4), (5,)], params={"axis": (0,)}, ref=ref),
        Row(name, label="two", sample=(normal,) * inputs, shapes=[(3, 2, 4)], params={"axis": (0, 2)}, ref=ref),
    ]


ROWS = [
    Row("relu", sample=split_at_zero, ref=lambda x: np.maximum(x, 0), edges=[((0.0,), (0.0,))]),
    Row("relu_pull", sample=(normal, split_at_zero), shapes=[(5,), (), (3, 4), (0, 3)], ref=lambda g, y: g * (y > 0),
        edges=[(([np.inf, np.nan, 2.0], [-1.0, 0.0, 1.0]), ([0, 0, 1], [0, 0, 0]))]),
    Row("unit_step", sample=split_at_zero, ref=lambda x: (x > 0) * 1.0),
    Row("leaky_relu", sample=(split_at_zero, positive), ref=lambda x, a: np.where(x > 0, x, a * x)),
    Row("elu", sample=(split_at_zero, positive), ref=lambda x, a: np.where(x > 0, x, a * np.expm1(x))),
    Row("sigmoid", ref=special.expit),
    Row("sigmoid", label="wide", sample=wide, ref=special.expit, smooth=False),
    Row("softplus", ref=lambda x: np.logaddexp(x, 0)),
    Row("softplus", label="wide", sample=wide, ref=lambda x: np.logaddexp(x, 0), smooth=False),
    Row("silu", ref=lambda x: x * special.expit(x)),
    Row("silu_slope", ref=silu_slope),
    Row("erf", ref=special.erf),
    Row("erf", label="large", shapes=[(300,), (40, 50)], sample=lambda rng, shape: 3 * rng.normal(size=shape), ref=special.erf),
    Row("gelu", ref=lambda x: x * special.ndtr(x)),
    Row("gelu_slope", ref=lambda x: special.ndtr(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)),
    Row("gelu_tanh", ref=gelu_tanh),
    Row("gelu_tanh_slope", ref=gelu_tanh_slope, contracted=4),
    *over_axes("softmax", special.softmax),
    *over_axes("softmax_pull", softmax_pull, inputs=2),
    *over_axes("log_softmax", special.log_softmax),
    *over_axes("log_softmax_pull", lambda g, y, axis: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True), inputs=2),
    *[Row(name, label=label, args=args(*lead), params=params, ref=ref)
      for name, args, ref in [("cross_entropy", logits, cross_entropy),
                              ("cross_entropy_pull", with_cotangent, cross_entropy_pull),
                              ("cross_entropy_push", with_tangent, cross_entropy_push)]
      for label, lead, params in [("", (5,), {}), ("one", (), {}), ("grid", (2, 3), {}), ("empty", (0,), {}),
                                  ("smoothed", (5,), {"smoothing": 0.1})]],
    *[Row("mean_cross_entropy", label=label, args=logits(*lead), params=params, ref=mean_cross_entropy)
      for label, lead, params in [("", (5,), {}), ("one", (), {}), ("grid", (2, 3), {}), ("smoothed", (5,), {"smoothing": 0.1})]],
    *[Row("class_target", label=label, args=logits(*lead), params=params,
          ref=lambda p, labels, smoothing=0.0: target(p, labels, smoothing))
      for label, lead, params in [("", (5,), {}), ("grid", (2, 3), {"smoothing": 0.1})]],
    *[Row("linear", label=label, args=layer(*lead, bias=bias), ref=lambda x, w, b=0: x @ w.T + b)
      for label, lead, bias in [("", (5,), True), ("bare", (5,), False), ("row", (), True), ("deep", (2, 3), True),
                                ("empty", (0,), True)]],
    *[Row("linear_relu", label=label, args=layer(*lead, out=out, bias=bias), ref=linear_relu)
      for label, lead, out, bias in [("", (5,), 4, True), ("bare", (5,), 4, False), ("row", (), 4, True),
                                     ("wide", (2, 3), 40, True)]],
    *[Row("random_dropout", label=label, shapes=[(4, 5), (3,), (2, 0)], params={"call": call, "p": p}, sample=normal,
          ref=lambda x, call, p: x * keep(call, x.shape, p) / max(1 - p, 1e-30))
      for label, call, p in [("", 5, 0.3), ("far", (1 << 64) - 1, 0.5), ("all", 5, 1.0)]],
    *[Row("stream_dropout", label=label, args=lambda rng, call=call, shape=shape: (
              rng.normal(size=shape), np.array([0, call], np.uint64)), params={"p": p},
          ref=lambda x, stream, p: x * keep(int(stream[1]), x.shape, p) / max(1 - p, 1e-30))
      for label, call, p, shape in [("", 5, 0.3, (4, 5)), ("far", (1 << 64) - 1, 0.5, (3,)), ("empty", 5, 0.5, (2, 0))]],
    Row("probabilities", sample=lambda rng, shape: rng.uniform(0.1, 0.9, shape), ref=np.asarray),
    Row("dropout", args=lambda rng: (rng.normal(size=(4, 5)), rng.random((4, 5)) < 0.7), params={"scale": 1.25},
        ref=lambda x, kept, scale: x * kept * scale),
    *[Row("standardize", label=label, shapes=[shape], params={"axis": axis, "eps": 1e-3, **more}, ref=standardize)
      for label, shape, axis, more in [("last", (3, 5), (1,), {}), ("channels", (3, 2, 4), (0, 2), {}),
                                       ("empty", (0, 3), (1,), {}), ("uncentred", (3, 5), (1,), {"centre": False})]],
    Row("standardize_pull", args=standardized, params={"axis": (1,)}, ref=standardize_pull),
    Row("standardize_pull", label="uncentred", args=standardized, params={"axis": (1,), "centre": False}, ref=standardize_pull),
    *[Row("layer_norm", label=label, args=args, params={"eps": 1e-3, **more}, ref=layer_norm)
      for label, args, more in [("", scaled_rows(3, 5), {}), ("one", scaled_rows(5), {}), ("deep", scaled_rows(2, 3, 8), {}),
                                ("axes", scaled_rows(3, 2, 4, axes=2), {"axes": 2}), ("bare", scaled_rows(3, 5, weights=0), {}),
                                ("rms", scaled_rows(3, 5, weights=1), {"centre": False})]],
    *[Row("add_layer_norm", label=label, args=args, params={"eps": 1e-3, **more}, ref=add_layer_norm)
      for label, args, more in [("", added_rows(3, 5), {}), ("axes", added_rows(3, 2, 4, axes=2), {"axes": 2}),
                                ("bare", added_rows(3, 5, weights=0), {}),
                                ("rms", added_rows(3, 5, weights=1), {"centre": False})]],
    *[Row("layer_norm_pull", label=label, args=args, params=more, ref=layer_norm_pull)
      for label, args, more in [("", normalised(3, 5), {}), ("axes", normalised(3, 2, 4, axes=2), {"axes": 2}),
                                ("uncentred", normalised(3, 8), {"centre": False})]],
    Row("scale_shift", shapes=[(5,), ((3, 4), (4,), (4,)), ((2, 3, 4), (3, 1), (3, 1)), ((0, 3), (3,), (3,))],
        ref=lambda n, a, b: n * a + b),
]
