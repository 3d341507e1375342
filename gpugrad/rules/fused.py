"""Operations of neural networks that have kernels of their own (gpugrad/kernels), and the activations.

The pullback of each is a primitive too, with a rule of its own, so that hand-written kernels serve every order.
"""
import math

from gpugrad.arrays import has_kernels, is_one
from gpugrad.errors import require
from gpugrad.graph.namespace import derived
from gpugrad.graph.node import HOOKS
from gpugrad.graph.primitive import Primitive, aligned, constant, elementwise
from gpugrad.graph.primitive import linear as linear_in
from gpugrad.graph.record import Item
from gpugrad.kernels import activations, cross_entropy, dropout, erf, gelu, linear, linear_relu, relu, softmax
from gpugrad.kernels.matmul import linear_gradients, multiply
from gpugrad.rules.contract import conjugate
from gpugrad.rules.shape import all_batched, next_axes


def over_next_axes(name):
    """The batch rule of an operation along `axis`, on arrays that are all of one rank."""
    def batch(m, size, batched, *xs, axis, **params):
        return getattr(m, name)(*all_batched(m, size, batched, xs), axis=next_axes(axis), **params)
    return batch


def by_rows(name):
    """The batch rule of an operation that takes any axes in front."""
    def batch(m, size, batched, *xs, **params):
        return getattr(m, name)(*all_batched(m, size, batched, xs), **params)
    return batch


def plus(*terms):
    """The sum of the terms that are there."""
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


# activations -----------------------------------------------------------------------------------------------------------

rectifier = elementwise("relu", lambda m, y, x: m.unit_step(y), impl=relu.relu)        # slope 0 at 0
rectifier.pull = lambda m, g, want, y, xs, params: (m.relu_pull(g, y),)                # keeps y alone: the next layer's input
rectifier.jvp = lambda m, ts, y, x: m.relu_pull(ts[0], y)

Primitive("relu_pull", lambda m, h, want, _, g, y: (m.relu_pull(h, y), None),
          jvp=lambda m, ts, _, g, y: None if ts[0] is None else m.relu_pull(ts[0], y),
          keep="y", batch=aligned("relu_pull"), impl=relu.relu_pull)

constant("unit_step", impl=lambda xp: lambda x: (x > 0).astype(x.dtype))               # 1 where x > 0, else 0


def bend(m, x, a):
    """1 where x > 0, else a."""
    step = m.unit_step(x)
    return step + (1 - step) * a


elementwise("leaky_relu", lambda m, y, x, a: bend(m, x, a), lambda m, y, x, a: m.minimum(x, 0), impl=activations.leaky_relu)
elementwise("elu", lambda m, y, x, a: m.exp(m.minimum(x, 0)) * bend(m, x, a),          # slope a at 0
            lambda m, y, x, a: m.expm1(m.minimum(x, 0)), impl=activations.elu)
elementwise("sigmoid", lambda m, y, x: y * (1 - y), impl=activations.sigmoid)
elementwise("softplus", lambda m, y, x: m.sigmoid(x), impl=activations.softplus)
elementwise("silu", lambda m, y, x: m.silu_slope(x), impl=activations.silu)
elementwise("erf", lambda m, y, x: m.exp(-x * x) * (2 / math.sqrt(math.pi)), impl=erf.erf)
exact = elementwise("gelu", lambda m, y, x: m.gelu_slope(x), impl=gelu.gelu)
tanh_form = elementwise("gelu_tanh", lambda m, y, x: m.gelu_tanh_slope(x), impl=gelu.gelu_tanh)


def gelu_into(prim, tanh):
    """The pullback in one launch."""
    def pull(m, totals, g, want, y, xs, params):
        gx = gelu.pull(g, xs[0], tanh)
        return prim.pull(m, g, want, y, xs, params) if gx is None else (gx,)
    return pull


exact.pull_into, tanh_form.pull_into = gelu_into(exact, False), gelu_into(tanh_form, True)


def silu_curvature(m, y, x):
    s = m.sigmoid(x)
    return s * (1 - s) * (2 + x * (1 - 2 * s))


def gelu_tanh_curvature(m, y, x):
    """(1 - t^2) (u' + x (u'' / 2 - t u'^2)) with t = tanh(u), u = k (x + c x^3)."""
    t = m.tanh(gelu.K * (x + gelu.C * x * x * x))
    du = gelu.K * (1 + 3 * gelu.C * x * x)
    return (1 - t * t) * (du + x * (3 * gelu.K * gelu.C * x - t * du * du))


elementwise("silu_slope", silu_curvature, impl=activations.silu_slope)
elementwise("gelu_slope", lambda m, y, x: (2 - x * x) * m.exp(-0.5 * x * x) / math.sqrt(2 * math.pi), impl=gelu.gelu_slope)
elementwise("gelu_tanh_slope", gelu_tanh_curvature, impl=gelu.gelu_tanh_slope)

# softmax ---------------------------------------------------------------------------------------------------------------


def along(m, a, b, axis):
    """The inner product of a and b along the axes, which stay."""
    return m.sum(a * b, axis=axis, keepdims=True)


def softmax_pull_vjp(m, h, want, _, g, y, axis):
    """softmax_pull is symmetric in g."""
    return (m.softmax_pull(h, y, axis=axis) if want[0] is not None else None,
            h * (g - along(m, g, y, axis)) - g * along(m, h, y, axis) if want[1] is not None else None)


def softmax_pull_jvp(m, ts, _, g, y, axis):
    tg, ty = ts
    return plus(None if tg is None else m.softmax_pull(tg, y, axis=axis),
                None if ty is None else ty * (g - along(m, g, y, axis)) - y * along(m, g, ty, axis))


def log_softmax_pull_vjp(m, h, want, _, g, y, axis):
    p = m.exp(y)
    return (h - along(m, h, p, axis) if want[0] is not None else None,
            -h * p * m.sum(g, axis=axis, keepdims=True) if want[1] is not None else None)


def log_softmax_pull_jvp(m, ts, _, g, y, axis):
    tg, ty = ts
    return plus(None if tg is None else m.log_softmax_pull(tg, y, axis=axis),
                None if ty is None else -ty * m.exp(y) * m.sum(g, axis=axis, keepdims=True))


Primitive("softmax", lambda m, g, want, y, x, axis: (m.softmax_pull(g, y, axis=axis),),
          jvp=lambda m, ts, y, x, axis: m.softmax_pull(ts[0], y, axis=axis),
          keep="y", batch=over_next_axes("softmax"), impl=softmax.softmax)
Primitive("softmax_pull", softmax_pull_vjp, softmax_pull_jvp,
          keep=("y", "g y"), batch=over_next_axes("softmax_pull"), impl=softmax.softmax_pull)
Primitive("log_softmax", lambda m, g, want, y, x, axis: (m.log_softmax_pull(g, y, axis=axis),),
          jvp=lambda m, ts, y, x, axis: ts[0] - along(m, ts[0], m.exp(y), axis),
          keep="y", batch=over_next_axes("log_softmax"), impl=softmax.log_softmax)
Primitive("log_softmax_pull", log_softmax_pull_vjp, log_softmax_pull_jvp,
          keep=("y", "g y"), batch=over_next_axes("log_softmax_pull"), impl=softmax.log_softmax_pull)

# cross-entropy: (loss of each row, p = softmax); p is an output because the pullback reads it ------------------------------


def column(m, g):
    return m.reshape(g, shape=(*g.shape, 1))


def cross_entropy_vjp(m, g, want, y, x, labels, smoothing=0.0):
    loss, p = g
    return (plus(None if loss is None else m.cross_entropy_pull(loss, y[1], labels, smoothing=smoothing),
                 None if p is None else m.softmax_pull(p, y[1], axis=(x.ndim - 1,))), None)


def cross_entropy_jvp(m, ts, y, x, labels, smoothing=0.0):
    return (m.cross_entropy_push(ts[0], y[1], labels, smoothing=smoothing),
            m.softmax_pull(ts[0], y[1], axis=(x.ndim - 1,)))


Primitive("cross_entropy", cross_entropy_vjp, cross_entropy_jvp, outputs=2,
          keep=("y labels", ""), batch=by_rows("cross_entropy"), impl=cross_entropy.cross_entropy)

# g (p - t): linear in g, and in p
Primitive("cross_entropy_pull",
          lambda m, h, want, _, g, p, labels, smoothing=0.0: (
              m.cross_entropy_push(h, p, labels, smoothing=smoothing) if want[0] is not None else None,
              h * column(m, g) if want[1] is not None else None, None),
          jvp=lambda m, ts, _, g, p, labels, smoothing=0.0: plus(
              None if ts[0] is None else m.cross_entropy_pull(ts[0], p, labels, smoothing=smoothing),
              None if ts[1] is None else ts[1] * column(m, g)),
          keep=("p labels", "g", ""), batch=by_rows("cross_entropy_pull"), impl=cross_entropy.cross_entropy_pull)

# sum_c (p - t) s: its transpose
Primitive("cross_entropy_push",
          lambda m, g, want, _, s, p, labels, smoothing=0.0: (
              m.cross_entropy_pull(g, p, labels, smoothing=smoothing) if want[0] is not None else None,
              s * column(m, g) if want[1] is not None else None, None),
          jvp=lambda m, ts, _, s, p, labels, smoothing=0.0: plus(
              None if ts[0] is None else m.cross_entropy_push(ts[0], p, labels, smoothing=smoothing),
              None if ts[1] is None else m.sum(ts[1] * s, axis=(p.ndim - 1,), keepdims=False)),
          keep=("p labels", "s", ""), batch=by_rows("cross_entropy_push"), impl=cross_entropy.cross_entropy_push)

# the mean over rows, with its gradient d = (p - t) / n as an output, so that behind a plain `backward()` no launch is left ----


def shares(m, d, labels, smoothing):
    """softmax again, out of d = (p - t) / n."""
    return d * math.prod(d.shape[:-1]) + m.class_target(d, labels, smoothing=smoothing)


def over_rows(m, s, p):
    """The change of d where the logits change by s, and its transpose."""
    return m.softmax_pull(s, p, axis=(p.ndim - 1,)) / math.prod(p.shape[:-1])


def mean_cross_entropy_vjp(m, g, want, y, x, labels, smoothing=0.0):
    loss, d = g
    return (plus(None if loss is None else y[1] if is_one(loss) else y[1] * loss,
                 None if d is None else over_rows(m, d, shares(m, y[1], labels, smoothing))), None)


def mean_cross_entropy_jvp(m, ts, y, x, labels, smoothing=0.0):
    return (m.sum(y[1] * ts[0], axis=tuple(range(x.ndim)), keepdims=False),
            over_rows(m, ts[0], shares(m, y[1], labels, smoothing)))


Primitive("mean_cross_entropy", mean_cross_entropy_vjp, mean_cross_entropy_jvp, outputs=2,
          keep=("y labels", ""), impl=cross_entropy.mean_cross_entropy)
constant("class_target", impl=cross_entropy.class_target, batch=by_rows("class_target"))

# layers ----------------------------------------------------------------------------------------------------------------


@derived
def as_rows(m, x):
    """(..., n) as (rows, n)."""
    return x if x.ndim == 2 else m.reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))


def linear_vjp(m, g, want, y, x, w, b=None):
    rows, dx, dw, db = m.as_rows(g), None, None, None
    if want[0] is not None:
        dx = m.cast(m.matmul(g, conjugate(m, w)), x.dtype)
    if want[1] is not None:
        dw = m.cast(m.matmul(m.transpose(rows, axes=(1, 0)), conjugate(m, m.as_rows(x))), w.dtype)
    if b is not None and want[2] is not None:
        db = m.cast(m.sum(rows, axis=(0,), keepdims=False), b.dtype)
    return dx, dw, db


def linear_pull(m, g, want, y, xs, params):
    """linear_vjp, without a detour on matrices of NumPy's."""
    return linear.linear_pull(g, want, *xs) or linear_vjp(m, g, want, y, *xs, **params)


def linear_into(m, totals, g, want, y, xs, params):
    """linear_vjp whose products add to what is there; the gradients of weight and bias come from one."""
    if g.dtype.kind != "f" or any(z.dtype != g.dtype for z in xs if z is not None):
        return linear_vjp(m, g, want, y, *xs, **params)
    return products(m, totals, g, want, *xs)


def products(m, totals, g, want, x, w, b=None, db=None):
    dw, wanted = None, b is not None and want[2] is not None and db is None
    dx = None if want[0] is None else input_gradient(m, g, w, totals[0], want[0])
    if want[1] is not None and wanted:
        dw, db = linear_gradients(m.as_rows(g), m.as_rows(x), totals[1])
    elif want[1] is not None:
        turned, rows = m.transpose(m.as_rows(g), axes=(1, 0)), m.as_rows(x)
        dw = m.matmul(turned, rows) if totals[1] is None else multiply(turned, rows, totals[1], 1.0)
    elif wanted:
        db = m.sum(m.as_rows(g), axis=(0,), keepdims=False)
    return None if totals[0] is not None else dx, None if totals[1] is not None else dw, db


def input_gradient(m, g, w, total, source):
    """g w, added to `total` where that is given. Behind a ReLU that cuBLASLt made, also the gradient before it."""
    if total is not None:
        return multiply(g, w, total, 1.0)
    gate, mask = gate_of(source)
    found = None if gate is None else linear_relu.through_gate(m.as_rows(g), w, mask)
    if found is None:
        return m.matmul(g, w)
    gate.masked, gate.sums = m.reshape(found[0], shape=(*g.shape[:-1], w.shape[1])), found[1]
    return gate.masked


def linear_jvp(m, ts, y, x, w, b=None):
    tx, tw, tb = (*ts, None)[:3]
    return m.like(plus(None if tx is None else m.linear(tx, w, None), None if tw is None else m.linear(x, tw, None), tb), y)


def linear_batch(m, size, batched, x, w, b=None):
    if not batched[1]:
        y = m.linear(x, w, None)
    else:
        lead = x.shape[1:-1] if batched[0] else x.shape[:-1]
        rows = m.reshape(x, shape=(*x.shape[:int(batched[0])], math.prod(lead), x.shape[-1]))
        y = m.reshape(m.matmul(rows, m.transpose(w, axes=(0, 2, 1))), shape=(size, *lead, w.shape[1]))
    if b is None:
        return y
    if batched[2]:
        b = m.reshape(b, shape=(size, *(1,) * (y.ndim - 1 - (batched[0] or batched[1])), b.shape[1]))
    return y + b


layer = Primitive("linear", linear_vjp, linear_jvp, keep=("w", "x", ""), batch=linear_batch, impl=linear.linear)
layer.pull, layer.pull_into = linear_pull, linear_into

# a layer with its ReLU: (y, mask) ------------------------------------------------------------------------------------------


class Gate:
    """What the product that brought a gradient back has done already: `masked`, the gradient before the ReLU, and its sums over
    the rows. A gradient that is not this very array, as where others were added to it, goes through the mask as usual."""

    __slots__ = ("masked", "sums")

    def __init__(self):
        self.masked = self.sums = None


def gate_of(source):
    """(Gate, Lt's mask) of the layer whose output has this node; (None, None) for anything else, or where hooks look on."""
    if type(source) is Item and source.index == 0 and source not in HOOKS:
        maker = source.parents[0]
        if maker.prim is rectified_linear and maker.y is not None and maker.y[1].dtype == "uint8":
            return maker.params.get("gate"), maker.y[1]
    return None, None


def linear_relu_vjp(m, g, want, y, x, w, b=None, gate=None):
    return linear_vjp(m, m.relu_pull(g[0], y[0]), want, y[0], x, w, b)


def linear_relu_into(m, totals, g, want, y, xs, params):
    g, (out, mask), gate = g[0], y, params.get("gate")
    if any(z is not None and z.dtype != g.dtype for z in xs) or not g.size:
        return linear_relu_vjp(m, (g, None), want, y, *xs)
    db = None
    if gate is not None and g is gate.masked:
        db = gate.sums
    elif mask.dtype == "uint32":
        g, db = linear_relu.bias_relu_pull(g, mask)
    else:
        g = m.relu_pull(g, out)
    if gate is not None:
        gate.masked = gate.sums = None
    x, w, b = (*xs, None)[:3]
    return products(m, totals, g, want, x, w, b, db)


def linear_relu_jvp(m, ts, y, x, w, b=None, gate=None):
    return m.relu_pull(linear_jvp(m, ts, y[0], x, w, b), y[0]), None


rectified_linear = Primitive("linear_relu", linear_relu_vjp, linear_relu_jvp, outputs=2, keep=("y w", "y x", "y"),
                             impl=linear_relu.linear_relu)
rectified_linear.pull_into = linear_relu_into


def from_0_to_1(xp):
    """x, after a look whether these are probabilities; on a GPU the look would wait for the device."""
    def looked_at(x):
        if x.size:
            least, most = float(x.min()), float(x.max())
            require("binary_cross_entropy", "probabilities", (least, most), least >= 0 and most <= 1, "from 0 to 1")
        return x
    return (lambda x: x) if has_kernels(xp) else looked_at


Primitive("probabilities", lambda m, g, want, y, x: (g,), jvp=lambda m, ts, y, x: ts[0], impl=from_0_to_1,
          batch=lambda m, size, batched, x: m.probabilities(x))

Primitive("dropout", lambda m, g, want, y, x, kept, scale: (m.dropout(g, kept, scale=scale), None),
          jvp=lambda m, ts, y, x, kept, scale: m.dropout(ts[0], kept, scale=scale),
          keep="kept", batch=aligned("dropout"), impl=dropout.dropout)
linear_in("random_dropout", lambda m, g, x, call, p: m.random_dropout(g, call=call, p=p), impl=dropout.random_dropout)
Primitive("stream_dropout", lambda m, g, want, y, x, stream, p: (m.stream_dropout(g, stream, p=p), None),
          jvp=lambda m, ts, y, x, stream, p: m.stream_dropout(ts[0], stream, p=p), keep="stream", impl=dropout.stream_dropout)
