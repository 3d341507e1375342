"""Normalisation: standardisation over any axes, and layer norm over the last ones, which has kernels of its own."""
from gpugrad.graph.primitive import Primitive, elementwise
from gpugrad.kernels import layer_norm, standardize
from gpugrad.rules.fused import along, over_next_axes, plus
from gpugrad.rules.reduce import count

# standardisation: (n, r, mean); the pullback reads n and r ----------------------------------------------------------------


def standardize_vjp(m, g, want, y, x, axis, eps, centre=True):
    n, r, _ = y
    gn, gr, gm = g
    return (plus(None if gn is None else m.standardize_pull(gn, n, r, axis=axis, centre=centre),
                 None if gr is None else n * (gr * r * r / -count(x, axis)),
                 None if gm is None or not centre else m.spread(gm / count(x, axis), shape=x.shape)),)


def standardize_jvp(m, ts, y, x, axis, eps, centre=True):
    n, r, _ = y
    t = ts[0]
    return (m.standardize_pull(t, n, r, axis=axis, centre=centre), -r * r * m.mean(n * t, axis=axis, keepdims=True),
            m.mean(t, axis=axis, keepdims=True) if centre else None)


def standardize_pull_vjp(m, h, want, y, g, n, r, axis, centre=True):
    """y = r (g - mean g - n mean(g n)), symmetric in g."""
    def bent():
        return -r * (h * m.mean(g * n, axis=axis, keepdims=True) + g * m.mean(h * n, axis=axis, keepdims=True))
    return (m.standardize_pull(h, n, r, axis=axis, centre=centre) if want[0] is not None else None,
            bent() if want[1] is not None else None,
            along(m, h, y, axis) / r if want[2] is not None else None)


def standardize_pull_jvp(m, ts, y, g, n, r, axis, centre=True):
    tg, tn, tr = ts
    return plus(None if tg is None else m.standardize_pull(tg, n, r, axis=axis, centre=centre),
                None if tn is None else -r * (tn * m.mean(g * n, axis=axis, keepdims=True)
                                              + n * m.mean(g * tn, axis=axis, keepdims=True)),
                None if tr is None else y * (tr / r))


Primitive("standardize", standardize_vjp, standardize_jvp, outputs=3, keep="y", batch=over_next_axes("standardize"),
          impl=standardize.standardize)
Primitive("standardize_pull", standardize_pull_vjp, standardize_pull_jvp, keep=("n r", "g n r", "y r"),
          batch=over_next_axes("standardize_pull"), impl=standardize.standardize_pull)
elementwise("scale_shift", lambda m, y, n, a, b: a, lambda m, y, n, a, b: n, 1, impl=standardize.scale_shift)

# layer norm: (y, mean, r); the pullback gives the gradients of x, weight and bias ------------------------------------


def parts(m, x, mean, r, axes):
    """(the normalised x, the axes in front, those normalised over)."""
    return (x - mean) * r, tuple(range(x.ndim - axes)), tuple(range(x.ndim - axes, x.ndim))


def times(g, w):
    return g if w is None else g * w


def layer_norm_vjp(m, g, want, y, x, w=None, b=None, axes=1, eps=1e-5, centre=True):
    gy, gm, gr = g
    _, mean, r = y
    dx, dw, db = (None, None, None) if gy is None else m.layer_norm_pull(gy, x, w, mean, r, axes=axes, centre=centre)
    if gm is not None or gr is not None:
        n, _, over = parts(m, x, mean, r, axes)
        dx = plus(dx, None if gr is None else n * (gr * r * r / -count(x, over)),
                  None if gm is None or not centre else m.spread(gm / count(x, over), shape=x.shape))
    return dx, dw, db


def layer_norm_into(m, totals, g, want, y, xs, params):
    """layer_norm_vjp whose gradients are added to what is there."""
    x, w, _ = (*xs, None, None)[:3]
    return pulled_into(m, g, 1, x, w, y, params, (*totals, None, None)[:3]) or normed.pull(m, g, want, y, xs, params)


def pulled_into(m, g, first, x, w, y, params, totals, more=None):
    """(dx, dw, db) by the kernels, None for what was added to its total; dx + more where given. None where they don't take it:
    for the gradients of mean and r, which are outputs `first` and up, among others."""
    gy, axes = g.get(0), params.get("axes", 1)
    if gy is None or max(g) >= first or gy.dtype != x.dtype or not layer_norm.takes(x, axes, w):
        return None
    totals = [t if t is not None and t.flags.c_contiguous else None for t in totals]
    mean, r = y[-2:]
    dx, dw, db = layer_norm.launched_pull(m.xp, gy, x, w, mean, r, axes, params.get("centre", True), totals, more)
    both = totals[1] is not None and totals[2] is not None
    return None if totals[0] is not None else dx, None if both else dw, None if both else db


def layer_norm_jvp(m, ts, y, x, w=None, b=None, axes=1, eps=1e-5, centre=True):
    tx, tw, tb = (*ts, None, None)[:3]
    n, _, over = parts(m, x, y[1], y[2], axes)
    tn = None if tx is None else m.standardize_pull(tx, n, y[2], axis=over, centre=centre)
    ty = m.like(plus(None if tn is None else times(tn, w), None if tw is None else n * tw, tb), y[0])
    if tx is None:
        return ty, None, None
    return (ty, m.mean(tx, axis=over, keepdims=True) if centre else None,
            -y[2] * y[2] * m.mean(n * tx, axis=over, keepdims=True))


def layer_norm_pull_vjp(m, h, want, y, g, x, w, mean, r, axes=1, centre=True):
    hx, hw, hb = h
    n, front, over = parts(m, x, mean, r, axes)
    gs = gn = gr = None
    if hx is not None:
        gs, gn, gr = standardize_pull_vjp(m, hx, (True,) * 3, y[0], times(g, w), n, r, axis=over, centre=centre)
    gn = plus(gn, None if hw is None else g * hw)
    gg = plus(None if gs is None else times(gs, w), None if hw is None else n * hw, hb)
    return (m.like(gg, g), None if gn is None else gn * r,
            None if w is None or gs is None else m.sum(gs * g, axis=front, keepdims=False),
            None if gn is None else -r * m.sum(gn, axis=over, keepdims=True),
            plus(gr, None if gn is None else along(m, gn, x - mean, over)))


def layer_norm_pull_jvp(m, ts, y, g, x, w, mean, r, axes=1, centre=True):
    tg, tx, tw, tm, tr = ts
    n, front, over = parts(m, x, mean, r, axes)
    tn = plus(None if tx is None else tx * r, None if tm is None else -r * tm, None if tr is None else (x - mean) * tr)
    t = plus(None if tg is None else times(tg, w), None if tw is None else g * tw)
    tdw = plus(None if tg is None else tg * n, None if tn is None else g * tn)
    return (standardize_pull_jvp(m, (t, tn, tr), y[0], times(g, w), n, r, axis=over, centre=centre),
            None if tdw is None else m.sum(tdw, axis=front, keepdims=False),
            None if tg is None else m.sum(tg, axis=front, keepdims=False))


normed = Primitive("layer_norm", layer_norm_vjp, layer_norm_jvp, outputs=3, keep="y x w", impl=layer_norm.layer_norm)
normed.pull_into = layer_norm_into
Primitive("layer_norm_pull", layer_norm_pull_vjp, layer_norm_pull_jvp, outputs=3, keep="y g x w mean r",
          impl=layer_norm.layer_norm_pull)

# the same of u = x + residual: (y, u, mean, r) ------------------------------------------------------------------------


def add_layer_norm_vjp(m, g, want, y, x, residual, w=None, b=None, **how):
    out, u, *statistics = y
    gy, gu, *others = g
    dx, dw, db = layer_norm_vjp(m, (gy, *others), want, (out, *statistics), u, w, b, **how)
    dx = plus(dx, gu)
    return dx, dx, dw, db


def add_layer_norm_into(m, totals, g, want, y, xs, params):
    """add_layer_norm_vjp by one launch: u's own gradient is added there."""
    w, found = (*xs, None)[2], None
    if 0 in g:
        found = pulled_into(m, g, 2, y[1], w, y, params, (None, *totals[2:], None, None)[:3], g.get(1))
    return (found[0], *found) if found else added.pull(m, g, want, y, xs, params)


def add_layer_norm_jvp(m, ts, y, x, residual, w=None, b=None, **how):
    out, u, *statistics = y
    tu = plus(ts[0], ts[1])
    ty, *others = layer_norm_jvp(m, (tu, *ts[2:]), (out, *statistics), u, w, b, **how)
    return ty, tu, *others


added = Primitive("add_layer_norm", add_layer_norm_vjp, add_layer_norm_jvp, outputs=4, keep="y w", impl=layer_norm.add_layer_norm)
added.pull_into = add_layer_norm_into
