"""Products: sums over shared axes. Every gradient is a product again, so all orders run at the speed of BLAS."""
from math import prod

from gpugrad.arrays.products import cross, einsum
from gpugrad.graph.primitive import Primitive, aligned, linear
from gpugrad.kernels.matmul import matmul, multiply

linear("matrix_transpose", lambda m, g, x: m.matrix_transpose(g), impl=lambda xp: lambda x: x.swapaxes(-1, -2),
       batch=lambda m, size, batched, x: m.matrix_transpose(x))


def conjugate(m, x):
    return m.conj(x) if x.dtype.kind == "c" else x


def adjoint(m, x):
    """The conjugate transpose of the last two axes; a view where x is real."""
    return m.matrix_transpose(conjugate(m, x))


# matmul ---------------------------------------------------------------------------------------------------------------

def matmul_vjp(m, g, want, y, a, b):
    """ga = g b^H and gb = a^H g. A vector is a matrix of one row on the left, of one column on the right."""
    rows, columns = a.shape, b.shape
    if len(rows) == 1 or len(columns) == 1:
        batch = g.shape[:g.ndim - (len(rows) > 1) - (len(columns) > 1)]
        rows = rows if len(rows) > 1 else (1, *rows)
        columns = columns if len(columns) > 1 else (*columns, 1)
        g = m.reshape(g, shape=(*batch, rows[-2], columns[-1]))
    ga = gb = None
    if want[0] is not None:
        ga = fitted(m, left(m, g, m.reshape(b, shape=columns) if b.ndim == 1 else b, rows), a)
    if want[1] is not None:
        gb = fitted(m, right(m, g, m.reshape(a, shape=rows) if a.ndim == 1 else a, columns), b)
    return ga, gb


def matmul_into(m, totals, g, want, y, xs, params):
    """matmul_vjp that adds by the products themselves, where the operands are two matrices, or stacks of equal length."""
    a, b = xs
    added = [False, False]
    if a.dtype == b.dtype == g.dtype and g.dtype.kind == "f" and min(a.ndim, b.ndim) > 1:
        alike = a.shape[:-2] == b.shape[:-2]
        if totals[0] is not None and (alike or b.ndim == 2):
            multiply(g, m.matrix_transpose(b), totals[0], 1.0)
            added[0] = True
        if totals[1] is not None and (alike or b.ndim == 2):
            stack = not alike                          # one matrix for the whole batch
            multiply(m.matrix_transpose(below(m, a) if stack else a), below(m, g) if stack else g, totals[1], 1.0)
            added[1] = True
    want = [None if done else w for w, done in zip(want, added, strict=True)]
    return matmul_vjp(m, g, want, y, a, b)


def fitted(m, gx, x):
    """A cotangent in the shape and dtype of its input, which has as many elements."""
    if gx.shape != x.shape:
        gx = m.reshape(gx, shape=x.shape)
    return gx if gx.dtype == x.dtype else m.cast(gx, x.dtype)


def left(m, g, b, shape):
    """g b^H, summed to the shape of the left operand."""
    if len(shape) == 2 < g.ndim:                       # one matrix for the whole batch: the batch joins the inner axis
        return m.matmul(beside(m, g), adjoint(m, beside(m, b)))
    return summed(m, m.matmul(g, adjoint(m, b)), shape)


def right(m, g, a, shape):
    """a^H g, summed to the shape of the right operand."""
    if len(shape) == 2 < g.ndim:
        return m.matmul(adjoint(m, below(m, a)), below(m, g))
    return summed(m, m.matmul(adjoint(m, a), g), shape)


def beside(m, x):
    """A stack of matrices side by side: (..., n, k) -> (n, prod(...) k)."""
    return m.reshape(m.moveaxis(x, source=x.ndim - 2, destination=0), shape=(x.shape[-2], prod(x.shape[:-2]) * x.shape[-1]))


def below(m, x):
    """A stack of matrices one below the other: (..., n, k) -> (prod(...) n, k), a view where x is contiguous."""
    return m.reshape(x, shape=(prod(x.shape[:-1]), x.shape[-1]))


def summed(m, x, shape):
    return x if x.shape == shape else m.sum_to(x, shape=shape)


def matmul_jvp(m, ts, y, a, b):
    if ts[0] is None:
        return m.matmul(a, ts[1])
    if ts[1] is None:
        return m.matmul(ts[0], b)
    return m.matmul(ts[0], b) + m.matmul(a, ts[1])


def matmul_batch(m, size, batched, a, b):
    """The batch becomes rows of one product where a vector or a shared matrix allows it, else one more batch axis."""
    stacked_a, stacked_b = batched
    rank_a, rank_b = a.ndim - stacked_a, b.ndim - stacked_b
    if not stacked_b and (rank_b <= 2 or rank_a >= rank_b):
        return m.matmul(a, b)
    if not stacked_a and rank_b == 1 and rank_a <= 2:
        return m.matmul(b, m.matrix_transpose(a) if rank_a == 2 else a)
    if not stacked_a and rank_a <= rank_b > 1:
        return m.matmul(a, b)
    rank = max(rank_a, rank_b, 2)
    y = m.matmul(as_stack(m, a, stacked_a, rank, rank_a == 1, False), as_stack(m, b, stacked_b, rank, False, rank_b == 1))
    if rank_a == 1:
        y = m.reshape(y, shape=(*y.shape[:-2], y.shape[-1]))
    return m.reshape(y, shape=y.shape[:-1]) if rank_b == 1 else y


def as_stack(m, x, stacked, rank, is_row, is_column):
    """x with `rank` axes behind the batch axis: a vector as a matrix, its own batch axes filled up with ones in front."""
    own = x.shape[1:] if stacked else x.shape
    own = (1, *own) if is_row else (*own, 1) if is_column else own
    return m.reshape(x, shape=(x.shape[0] if stacked else 1, *(1,) * (rank - len(own)), *own))


Primitive("matmul", matmul_vjp, matmul_jvp, impl=matmul, batch=matmul_batch, keep=("b", "a")).pull_into = matmul_into


# einsum ---------------------------------------------------------------------------------------------------------------
# subscripts name every axis by a letter, "ab,bc->ac": no letter twice in one operand, no ellipsis, no length 1 that
# stands for another. gpugrad.numpy.einstein brings every call to this form, and to at most two operands.

def terms_of(subscripts):
    operands, out = subscripts.split("->")
    return operands.split(","), out


def einsum_vjp(m, g, want, y, *xs, subscripts):
    """Each cotangent is an einsum of g with the other operands; over axes summed alone it is constant."""
    terms, out = terms_of(subscripts)
    cotangents: list = []
    for i, (w, x, own) in enumerate(zip(want, xs, terms, strict=True)):
        if w is None:
            cotangents.append(None)
            continue
        others = [t for j, t in enumerate(terms) if j != i]
        shared = "".join([c for c in own if any(c in t for t in (out, *others))])
        rest = [conjugate(m, z) for j, z in enumerate(xs) if j != i]
        gx = m.einsum(g, *rest, subscripts=f"{','.join([out, *others])}->{shared}")
        if shared != own:
            gx = m.reshape(gx, shape=tuple([n if c in shared else 1 for c, n in zip(own, x.shape, strict=True)]))
            gx = m.spread(gx, shape=x.shape)
        cotangents.append(m.cast(gx, x.dtype))
    return cotangents


def einsum_jvp(m, ts, y, *xs, subscripts):
    dy = None
    for i, t in enumerate(ts):
        if t is not None:
            term = m.einsum(*xs[:i], t, *xs[i + 1:], subscripts=subscripts)
            dy = term if dy is None else dy + term
    return dy


def einsum_batch(m, size, batched, *xs, subscripts):
    terms, out = terms_of(subscripts)
    letter = chr(max(map(ord, subscripts)) + 1)
    terms = [letter + t if b else t for t, b in zip(terms, batched, strict=True)]
    return m.einsum(*xs, subscripts=f"{','.join(terms)}->{letter}{out}")


Primitive("einsum", einsum_vjp, einsum_jvp, impl=lambda xp: einsum(matmul(xp)), batch=einsum_batch, keep="xs")


# vectors --------------------------------------------------------------------------------------------------------------

def cross_vjp(m, g, want, y, a, b):
    """<g, a x b> = <b x g, a> = <g x a, b>."""
    return (m.fit(m.cross(conjugate(m, b), g), a) if want[0] is not None else None,
            m.fit(m.cross(g, conjugate(m, a)), b) if want[1] is not None else None)


def cross_jvp(m, ts, y, a, b):
    terms = [m.cross(ts[0], b)] if ts[0] is not None else []
    if ts[1] is not None:
        terms.append(m.cross(a, ts[1]))
    return m.like(terms[0] if len(terms) == 1 else terms[0] + terms[1], y)


Primitive("cross", cross_vjp, cross_jvp, impl=cross, batch=aligned("cross"), keep=("b", "a"))


def convolve_vjp(m, g, want, y, a, v, mode):
    """Against the other operand, reversed: of the full length where y is the valid part, and the other way round."""
    other = {"full": "valid", "valid": "full"}[mode]
    short = v if a.shape[0] >= v.shape[0] else a

    def pull(x, against):
        back = m.flip(conjugate(m, against), axis=(0,))
        return m.cast(m.convolve(g, back, mode="valid" if x is short else other), x.dtype)
    return pull(a, v) if want[0] is not None else None, pull(v, a) if want[1] is not None else None


def convolve_jvp(m, ts, y, a, v, mode):
    terms = [m.convolve(ts[0], v, mode=mode)] if ts[0] is not None else []
    if ts[1] is not None:
        terms.append(m.convolve(a, ts[1], mode=mode))
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


Primitive("convolve", convolve_vjp, convolve_jvp, impl=lambda xp: lambda a, v, mode: xp.convolve(a, v, mode), keep=("v", "a"))
