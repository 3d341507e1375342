"""The products of gpugrad.numpy: NumPy's values for NumPy's arguments, gradients that agree with differences, errors."""

import numpy as np
import pytest
from agreement import same
from on_device import close, placed, xp

from gpugrad import methods as methods
from gpugrad import rules as rules
from gpugrad.check import check_grads
from gpugrad.errors import ArgumentError, AxisError, DtypeError, ShapeError
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy import contract as gnp
from gpugrad.numpy.einstein import einsum, einsum_path
from gpugrad.transforms import grad, vjp, vmap

pytestmark = pytest.mark.usefixtures("device")

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape)


def complex_normal(*shape):
    return normal(*shape) + 1j * normal(*shape)


def agrees(f, reference, *xs):
    """f has the reference's value and dtype, gradients of its inputs' shapes and dtypes, and right derivatives in both modes."""
    expected, xs = reference(*xs), placed(tuple(map(np.asarray, xs)))
    same(f(*xs), expected, "product")
    y, pull = vjp(f, *xs)
    for g, x in zip(pull(xp.ones_like(y)), xs, strict=True):
        assert (g.shape, g.dtype) == (x.shape, x.dtype)
    check_grads(f, xs, order=1)


PAIRS = [
    ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((3, 4), (4, 5)), ((2, 3, 4), (4,)), ((4,), (2, 4, 5)), ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)), ((2, 3, 4), (2, 4, 5)), ((6, 1, 3, 4), (2, 4, 5)), ((0, 4), (4, 5)), ((3, 0), (0, 5)),
]


@pytest.mark.parametrize("shapes", PAIRS)
@pytest.mark.parametrize("make", [normal, complex_normal])
def test_matmul_is_numpys(shapes, make):
    agrees(gnp.matmul, np.matmul, make(*shapes[0]), make(*shapes[1]))


@pytest.mark.parametrize("shapes", [*PAIRS[:6], ((), (3,)), ((2, 3), ()), ((), ()), ((2, 3, 4), (5, 4, 2)), ((0, 3), (3, 0))])
def test_dot_is_numpys(shapes):
    agrees(gnp.dot, np.dot, normal(*shapes[0]), normal(*shapes[1]))


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((2, 3), (5, 3)), ((2, 3), (3,)), ((), (3,)), ((2, 3, 4), (5, 4)),
                                    ((2, 0), (3, 0))])
def test_inner_is_numpys(shapes):
    agrees(gnp.inner, np.inner, normal(*shapes[0]), normal(*shapes[1]))


@pytest.mark.parametrize("shapes", [((4,), (3,)), ((2, 3), (5,)), ((), (3,)), ((0,), (3,))])
@pytest.mark.parametrize("make", [normal, complex_normal])
def test_outer_is_numpys(shapes, make):
    agrees(gnp.outer, np.outer, make(*shapes[0]), make(*shapes[1]))


@pytest.mark.parametrize("make", [normal, complex_normal])
def test_vdot_conjugates_and_reads_arrays_as_vectors(make):
    agrees(gnp.vdot, np.vdot, make(5), make(5))
    agrees(gnp.vdot, np.vdot, make(2, 3), make(3, 2))


@pytest.mark.parametrize("axes", [2, 1, ([1, 0], [0, 1]), ((-1,), (0,)), (0, 1)])
def test_tensordot_is_numpys(axes):
    a, b = normal(3, 4), normal(4, 3)
    if axes == 2:
        b = normal(3, 4, 2)
    agrees(lambda a, b: gnp.tensordot(a, b, axes), lambda a, b: np.tensordot(a, b, axes), a, b)


def test_tensordot_of_many_axes():
    agrees(lambda a, b: gnp.tensordot(a, b, ([0, 2], [3, 1])), lambda a, b: np.tensordot(a, b, ([0, 2], [3, 1])),
           normal(2, 3, 4), normal(5, 4, 2, 2))
    agrees(lambda a, b: gnp.tensordot(a, b, 0), lambda a, b: np.tensordot(a, b, 0), normal(2, 3), normal(4))


@pytest.mark.parametrize("make", [normal, complex_normal])
def test_vecdot_matvec_and_vecmat_are_numpys(make):
    agrees(gnp.vecdot, np.vecdot, make(2, 3), make(3))
    agrees(lambda a, b: gnp.vecdot(a, b, axis=0), lambda a, b: np.vecdot(a, b, axis=0), make(3, 2), make(3, 2))
    agrees(gnp.matvec, np.matvec, make(2, 3, 4), make(4))
    agrees(gnp.matvec, np.matvec, make(2, 3, 4), make(2, 4))
    agrees(gnp.vecmat, np.vecmat, make(4), make(2, 4, 3))
    agrees(gnp.vecmat, np.vecmat, make(2, 4), make(4, 3))


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((2, 3), (4, 5)), ((2, 3), (4,)), ((), (4,)), ((2,), (2, 2, 3))])
def test_kron_is_numpys(shapes):
    agrees(gnp.kron, np.kron, normal(*shapes[0]), normal(*shapes[1]))


@pytest.mark.parametrize(("shapes", "options"), [(((3,), (3,)), {}), (((4, 3), (3,)), {}), (((3, 4), (3, 4)), {"axis": 0}),
                                                 (((3, 4), (4, 3)), {"axisa": 0, "axisb": 1, "axisc": 0})])
@pytest.mark.parametrize("make", [normal, complex_normal])
def test_cross_is_numpys(shapes, options, make):
    agrees(lambda a, b: gnp.cross(a, b, **options), lambda a, b: np.cross(a, b, **options), make(*shapes[0]), make(*shapes[1]))


def test_cross_of_plane_vectors_is_their_determinant():
    a, b = normal(4, 2), normal(4, 2)
    assert close(gnp.cross(a, b).data, a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    assert close(gnp.cross(a[0], normal(3) * [1, 1, 0]).data[:2], 0)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize(("n", "m"), [(7, 3), (3, 7), (6, 4), (4, 6), (5, 5), (4, 4), (1, 4), (5, 2), (2, 5)])
@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize("make", [normal, complex_normal])
def test_convolve_and_correlate_are_numpys(name, n, m, mode, make):
    agrees(lambda a, v: getattr(gnp, name)(a, v, mode), lambda a, v: getattr(np, name)(a, v, mode), make(n), make(m))


EINSUMS = [
    ("ij,jk->ik", (3, 4), (4, 5)), ("ij,jk", (3, 4), (4, 5)), ("ij,kj->ki", (3, 4), (5, 4)), ("ii", (3, 3)),
    ("ii->i", (3, 3)), ("iji->j", (3, 4, 3)), ("iii->i", (3, 3, 3)), ("ijij->ji", (2, 3, 2, 3)), ("i->", (4,)),
    ("i->i", (4,)), ("ba", (2, 3)), ("ij->", (3, 4)), ("ij->j", (3, 4)), ("i,i", (4,), (4,)), ("i,j", (4,), (3,)),
    ("i,j->ji", (4,), (3,)), ("ij,ij->ij", (3, 4), (3, 4)), ("ij,ij", (3, 4), (3, 4)), ("...i,...i->...", (2, 3, 4), (3, 4)),
    ("...ij,...jk", (2, 3, 4), (2, 4, 5)), ("...ij,...jk->...ik", (6, 1, 3, 4), (2, 4, 5)), ("i...->...", (2, 3, 4)),
    ("...ii->...i", (2, 3, 3)), ("a...,b...", (2, 3), (4, 1)), ("a...b->b...a", (2, 3, 4)), ("...,...->...", (), (3,)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)), ("i,j,k->kji", (2,), (3,), (4,)), ("i,i,i->i", (3,), (3,), (3,)),
    ("ij,ik,il,im->jklm", (3, 2), (3, 4), (3, 5), (3, 6)), ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("ij,jk", (2, 1), (3, 4)), ("ij,ij->i", (2, 1), (2, 3)), ("i,ij->", (1,), (3, 4)), ("ij,k->i", (3, 4), (5,)),
    ("ij,j->j", (3, 4), (4,)), (" i j , j k -> i k ", (3, 4), (4, 5)), ("Ab,bC->AC", (3, 4), (4, 5)),
    ("bA,Cb", (4, 3), (5, 4)), (",i->i", (), (3,)), ("->", ()), ("ij,jk->ik", (0, 4), (4, 5)), ("ij,jk->ik", (3, 0), (0, 5)),
    ("ab,bc,cd,de->", (2, 3), (3, 2), (2, 3), (3, 2)),
]


@pytest.mark.parametrize("case", EINSUMS, ids=lambda case: f"{case[0]}{case[1:]}")
@pytest.mark.parametrize(("device", "optimize"), [
    ("cpu", False), ("cpu", True), ("sim", True), pytest.param("sim", False, marks=pytest.mark.slow)], indirect=["device"])
def test_einsum_is_numpys(case, device, optimize):
    subscripts, *shapes = case
    agrees(lambda *xs: einsum(subscripts, *xs, optimize=optimize), lambda *xs: np.einsum(subscripts, *xs),
           *[normal(*s) for s in shapes])


@pytest.mark.parametrize("case", EINSUMS[:20], ids=lambda case: f"{case[0]}{case[1:]}")
def test_complex_einsum_is_numpys(case):
    subscripts, *shapes = case
    agrees(lambda *xs: einsum(subscripts, *xs), lambda *xs: np.einsum(subscripts, *xs), *[complex_normal(*s) for s in shapes])


def test_einsum_of_random_subscripts(device):
    rng = np.random.default_rng(5)
    for _ in range(60 if device == "cpu" else 6):
        sizes = dict(zip("abcde", rng.integers(1, 4, size=5), strict=True))
        terms = ["".join(rng.choice(list("abcde"), size=rng.integers(0, 4))) for _ in range(rng.integers(1, 4))]
        letters = sorted(set("".join(terms)))
        out = "".join(rng.permutation(letters)[:rng.integers(0, len(letters) + 1)]) if letters else ""
        subscripts = f"{','.join(terms)}->{out}"
        agrees(lambda *xs, s=subscripts: einsum(s, *xs), lambda *xs, s=subscripts: np.einsum(s, *xs),
               *[rng.normal(size=tuple(sizes[c] for c in term)) for term in terms])


def test_einsum_takes_lists_for_subscripts():
    a, b = normal(3, 4), normal(4, 5)
    assert close(einsum(a, [0, 1], b, [1, 2], [0, 2]).data, a @ b)
    assert close(einsum(a, [3, 1], b, [1, 2]).data, np.einsum(a, [3, 1], b, [1, 2]))
    assert close(einsum(a, [..., 0], b, [0, 2], [..., 2]).data, a @ b)


def test_einsum_follows_a_path():
    xs = [normal(2, 3), normal(3, 4), normal(4, 5), normal(5, 2)]
    expected = np.einsum("ij,jk,kl,li->", *xs)
    for path in (["einsum_path", (0, 1), (0, 1), (0, 1)], ["einsum_path", (2, 3), (0, 1, 2)], ["einsum_path", (0, 1, 2, 3)],
                 "optimal", ("greedy", 1000), einsum_path("ij,jk,kl,li->", *xs)[0]):
        assert close(einsum("ij,jk,kl,li->", *xs, optimize=path).data, expected)


def test_einsum_keeps_integer_dtypes():
    i, b = xp.arange(6, dtype=np.int8).reshape(2, 3), xp.array([True, False, True])
    assert einsum("ij->", i).dtype == np.int8
    assert einsum("ij,kj->ik", i, i).dtype == np.int8
    assert einsum("i,i", b, b).dtype == np.bool_
    assert einsum("i,i", b, b).data == np.einsum("i,i", b, b)


@pytest.mark.parametrize("f", [lambda a: gnp.matmul(a, a), lambda a: gnp.dot(a, a), lambda a: gnp.inner(a, a),
                               lambda a: gnp.outer(a, a), lambda a: gnp.vdot(a, a), lambda a: gnp.kron(a, a),
                               lambda a: einsum("ij,jk->ik", a, a),
                               lambda a: gnp.tensordot(a, a), lambda a: gnp.cross(a, a), lambda a: gnp.convolve(a[0], a[1])])
def test_float32_stays_float32(f):
    a = xp.asarray(normal(3, 3), np.float32)
    y, pull = vjp(f, a)
    assert y.dtype == np.float32
    assert pull(xp.ones_like(y))[0].dtype == np.float32


def test_mixed_dtypes_promote_and_gradients_come_back():
    a, b = placed((normal(3, 4).astype(np.float32), complex_normal(4, 2)))
    y, pull = vjp(gnp.matmul, a, b)
    ga, gb = pull(xp.ones_like(y))
    assert (y.dtype, ga.dtype, gb.dtype) == (np.complex128, np.float32, np.complex128)
    assert close(ga, (xp.ones((3, 2)) @ b.conj().T).real, atol=1e-6)


def test_products_with_out_assign_to_it():
    a = Tensor(normal(3, 3))
    a.requires_grad = True
    for f in (gnp.matmul, gnp.dot):
        out = Tensor(xp.zeros((3, 3)))
        assert f(a, a, out=out) is out
        assert out.requires_grad
        assert close(out.data, a.data @ a.data)


def test_einsum_in_vmap_is_one_product():
    a, b = normal(5, 3, 4), normal(5, 4, 2)
    assert close(vmap(lambda a, b: einsum("ij,jk->ik", a, b))(a, b), a @ b)
    assert close(vmap(lambda a: einsum("ij,jk->ki", a, b[0]))(a), (a @ b[0]).transpose(0, 2, 1))


def test_gradient_of_a_shared_matrix_is_summed_over_the_stack():
    x, w = placed((normal(6, 5, 4), normal(4, 3)))
    g = grad(lambda w: gnp.matmul(x, w).sum())(w)
    assert close(g, np.einsum("bij,bik->jk", x, xp.ones((6, 5, 3))))


@pytest.mark.parametrize(("f", "error", "message"), [
    (lambda: gnp.matmul(normal(64, 128), normal(64, 32)), ShapeError,
     r"matmul: inner sizes must agree, got a \(64, 128\) and b \(64, 32\)"),
    (lambda: gnp.matmul(2.0, normal(3)), ShapeError, "at least one axis"),
    (lambda: gnp.matmul(normal(2, 3, 4), normal(3, 4, 5)), ShapeError, "batch axes must broadcast"),
    (lambda: gnp.matmul("a", normal(3)), DtypeError, "matmul: expected an array or numbers"),
    (lambda: gnp.dot(normal(3), normal(4)), ShapeError, "dot: expected axis 0 of a and axis 0 of b"),
    (lambda: gnp.dot(normal(3), normal(2, 4, 5)), ShapeError, "dot"),
    (lambda: gnp.vdot(normal(3), normal(4)), ShapeError, "vdot"),
    (lambda: gnp.inner(normal(2, 3), normal(2, 4)), ShapeError, "inner"),
    (lambda: gnp.tensordot(normal(2, 3), normal(2, 3)[0], 2), AxisError, "tensordot: expected axes from 0 to 1"),
    (lambda: gnp.tensordot(normal(2, 3), normal(2, 3), 1), ShapeError, "tensordot"),
    (lambda: gnp.tensordot(normal(2, 3), normal(2, 3), ([0], [0, 1])), ShapeError, "as many axes"),
    (lambda: gnp.tensordot(normal(2, 3), normal(2, 3), "no"), (ArgumentError, DtypeError), "tensordot"),
    (lambda: gnp.vecdot(normal(3), normal(4)), ShapeError, "vecdot"),
    (lambda: gnp.matvec(normal(3), normal(3)), ShapeError, "matvec: expected at least 2 axes"),
    (lambda: gnp.cross(normal(4), normal(4)), ShapeError, "cross: expected vectors of length 2 or 3"),
    (lambda: gnp.convolve(normal(2, 2), normal(3)), ShapeError, "convolve: expected vectors"),
    (lambda: gnp.convolve(normal(0), normal(3)), ShapeError, "convolve: expected vectors"),
    (lambda: gnp.convolve(normal(3), normal(3), "most"), ArgumentError, "convolve: expected mode"),
    (lambda: einsum("ij,jk", normal(2, 3)), ArgumentError, "einsum: expected 2 operands"),
    (lambda: einsum("ij", normal(2)), ShapeError, "einsum: expected 2 axes"),
    (lambda: einsum("i,i", normal(2), normal(3)), ShapeError, "one length for letter 'i'"),
    (lambda: einsum("i->ij", normal(2)), ArgumentError, "output letters"),
    (lambda: einsum("i->ii", normal(2)), ArgumentError, "output letters"),
    (lambda: einsum("i1->i", normal(2, 2)), ArgumentError, "letters"),
    (lambda: einsum("...i->i", normal(2, 2)), ArgumentError, "in the output too"),
    (lambda: einsum("i,i", normal(2), normal(2), optimize="best"), ArgumentError, "optimize"),
    (lambda: einsum("i,i", normal(2), normal(2), optimize=["einsum_path", (0, 5)]), ArgumentError, "step"),
    (lambda: einsum("i", normal(2), where=True), ArgumentError, "einsum: expected out, dtype or optimize"),
    (lambda: einsum(), ArgumentError, "einsum"),
])
def test_bad_input_names_the_operation(f, error, message):
    with pytest.raises(error, match=message):
        f()
