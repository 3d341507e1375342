"""Shapes, joins, splits and padding: NumPy's results for NumPy's arguments, and gradients to where elements came from."""
import numpy as np
import pytest
from agreement import agrees, normal, same
from on_device import assert_close, xp

import gpugrad as gg
from gpugrad import numpy as gnp
from gpugrad.errors import ArgumentError, AxisError, ConversionError, DtypeError, ShapeError

pytestmark = pytest.mark.usefixtures("device")

CALLS = [
    ("reshape", (normal(3, 4), (2, 6)), {}),
    ("reshape", (normal(3, 4), -1), {}),
    ("reshape", (normal(3, 4), (2, -1)), {"order": "F"}),
    ("reshape", (normal(0, 4), (2, -1)), {}),
    ("reshape", (normal(), ()), {"copy": True}),
    ("ravel", (normal(3, 4),), {}),
    ("ravel", (normal(3, 4), "F"), {}),
    ("ravel", (normal(0, 4),), {}),
    ("squeeze", (normal(1, 3, 1),), {}),
    ("squeeze", (normal(1, 3, 1), -1), {}),
    ("squeeze", (normal(1, 3, 1), (0, 2)), {}),
    ("expand_dims", (normal(3, 4), 1), {}),
    ("expand_dims", (normal(3, 4), (0, -1)), {}),
    ("transpose", (normal(2, 3, 4),), {}),
    ("transpose", (normal(2, 3, 4), (1, 0, -1)), {}),
    ("permute_dims", (normal(2, 3, 4), [2, 0, 1]), {}),
    ("matrix_transpose", (normal(2, 3, 4),), {}),
    ("swapaxes", (normal(2, 3, 4), 0, -1), {}),
    ("moveaxis", (normal(2, 3, 4), 0, -1), {}),
    ("moveaxis", (normal(2, 3, 4, 5), [0, 1], [-1, -2]), {}),
    *[("rollaxis", (normal(2, 3, 4), axis, start), {}) for axis in (0, 1, -1) for start in (0, 1, 2, 3, -1)],
    ("broadcast_to", (normal(3, 1), (2, 3, 4)), {}),
    ("broadcast_to", (1.5, 3), {}),
    ("broadcast_arrays", (normal(3, 1), normal(4), 2.0), {}),
    ("atleast_1d", (1.5,), {}),
    ("atleast_1d", (1.5, normal(2, 3)), {}),
    ("atleast_2d", (normal(3), normal(), normal(2, 2)), {}),
    ("atleast_3d", (normal(3), normal(), normal(2, 2), normal(2, 1, 2)), {}),
    ("concatenate", ([normal(2, 3), normal(4, 3)],), {}),
    ("concatenate", ([normal(2, 3), normal(2, 1), normal(2, 0)], -1), {}),
    ("concatenate", ((normal(2, 3), normal(4)),), {"axis": None}),
    ("concatenate", ([normal(2), np.arange(3)],), {"dtype": "f4", "orders": 0}),
    ("concat", ([normal(2, 3), np.ones((1, 3), "f4")],), {}),
    ("stack", ([normal(2, 3), normal(2, 3, seed=1)], -1), {}),
    ("stack", ([1.0, 2.0, 3],), {}),
    ("vstack", ([normal(3), normal(2, 3)],), {}),
    ("hstack", ([normal(3), normal(2)],), {}),
    ("hstack", ([normal(3, 1), normal(3, 2)],), {}),
    ("dstack", ([normal(3), normal(3)],), {}),
    ("column_stack", ([normal(3), normal(3, 2)],), {}),
    ("append", (normal(2, 3), normal(3)), {}),
    ("append", (normal(2, 3), normal(1, 3)), {"axis": 0}),
    ("block", ([[normal(2, 2), normal(2, 1)], [normal(1, 3)]],), {}),
    ("block", ([normal(3), 2.0],), {}),
    ("block", (normal(3),), {}),
    ("block", ([[[normal(2, 2)]], [[normal(2, 2)]]],), {}),
    ("split", (normal(6, 2), 3), {}),
    ("split", (normal(6, 2), [1, 4]), {}),
    ("split", (normal(6, 2), [4, 2, 9]), {}),
    ("split", (normal(6), [-2]), {}),
    ("split", (normal(2, 6), 2), {"axis": 1}),
    ("array_split", (normal(7, 2), 3), {}),
    ("array_split", (normal(2), 4), {}),
    ("hsplit", (normal(4), 2), {}),
    ("hsplit", (normal(2, 4), 2), {}),
    ("vsplit", (normal(4, 2), 2), {}),
    ("dsplit", (normal(1, 2, 4), [3]), {}),
    ("unstack", (normal(3, 2),), {}),
    ("unstack", (normal(3, 2),), {"axis": -1}),
    ("tile", (normal(2, 3), 2), {}),
    ("tile", (normal(2, 3), (2, 1, 3)), {}),
    ("tile", (normal(1, 2, 3), (2,)), {}),
    ("tile", (normal(3), 0), {}),
    ("repeat", (normal(2, 3), 2), {}),
    ("repeat", (normal(2, 3), 3, -1), {}),
    ("repeat", (normal(2, 3), [2, 0, 1], 1), {}),
    ("repeat", (normal(2, 3), [2], 0), {}),
    ("repeat", (1.5, 3), {}),
    ("roll", (normal(2, 3), 4), {}),
    ("roll", (normal(2, 3), -1, 1), {}),
    ("roll", (normal(2, 3), (1, -2), (0, 1)), {}),
    ("roll", (normal(2, 3), 1, (0, 1)), {}),
    ("flip", (normal(2, 3),), {}),
    ("flip", (normal(2, 3), -1), {}),
    ("fliplr", (normal(2, 3),), {}),
    ("flipud", (normal(3),), {}),
    *[("rot90", (normal(2, 3, 4), k, axes), {}) for k in (-1, 0, 1, 2, 3, 5) for axes in ((0, 1), (2, 0))],
    ("resize", (normal(2, 3), (4, 5)), {}),
    ("resize", (normal(2, 3), 2), {}),
    ("resize", (normal(0), (2, 2)), {}),
    ("meshgrid", (normal(3), normal(2), normal(4)), {}),
    ("meshgrid", (normal(3), normal(2)), {"indexing": "ij", "sparse": True}),
    ("meshgrid", (normal(3),), {}),
    ("delete", (normal(5), 1), {}),
    ("delete", (normal(5, 2), [0, -1]), {"axis": 0}),
    ("delete", (normal(5, 3), slice(0, 2), 1), {}),
    ("delete", (normal(3), np.array([True, False, True])), {}),
    ("insert", (normal(5), 1, 9.0), {}),
    ("insert", (normal(5), -1, normal(3)), {}),
    ("insert", (normal(5), [1, 3, 3], normal(3)), {}),
    ("insert", (normal(5), [2], normal(3)), {}),
    ("insert", (normal(2, 3), 1, normal(2)), {"axis": 1}),
    ("insert", (normal(2, 3), 1, normal(2, 2)), {"axis": 1}),
    ("insert", (normal(2, 3), [1, 2], normal(2, 1)), {"axis": 1}),
    ("insert", (normal(4), slice(1, 3), normal(2)), {}),
    ("insert", (np.arange(4), 1, 2.7), {}),
    ("trim_zeros", (np.array([0.0, 0, 1, 0, 2, 0]),), {"orders": 0}),
    ("trim_zeros", (np.array([0.0, 0, 1, 0, 2, 0]), "f"), {"orders": 0}),
    ("trim_zeros", (np.array([0.0, 0.0]),), {}),
    ("vander", (normal(3),), {}),
    ("vander", (normal(3), 5), {"increasing": True}),
    ("vander", (normal(3), 1), {}),
    ("vander", (normal(3), 0), {}),
    ("vander", (np.array([1, 2, 3]),), {}),
]

PADS = [
    (normal(2, 3), 1, {}),
    (normal(2, 3), ((1, 2), (0, 3)), {"constant_values": 2.5}),
    (normal(2, 3), ((1, 2), (0, 3)), {"constant_values": ((1, 2), (3, 4))}),
    (normal(2, 3), {-1: (1, 2)}, {}),
    (np.arange(6).reshape(2, 3), (1, 2), {"constant_values": 7}),
    *[(normal(3, 4), ((1, 2), (3, 0)), {"mode": mode}) for mode in ("edge", "reflect", "symmetric", "wrap", "maximum", "minimum",
                                                                     "mean", "median", "linear_ramp")],
    *[(normal(3, 2), ((7, 5), (0, 4)), {"mode": mode}) for mode in ("reflect", "symmetric", "wrap")],
    *[(normal(3, 4), ((1, 2), (3, 5)), {"mode": mode, "reflect_type": "odd"}) for mode in ("reflect", "symmetric")],
    *[(normal(4, 5), ((1, 2), (3, 0)), {"mode": mode, "stat_length": ((1, 2), (3, 9))})
      for mode in ("maximum", "mean", "median")],
    (normal(3, 2), ((3, 2), (1, 4)), {"mode": "linear_ramp", "end_values": ((1, -2), (0, 3))}),
    *[(np.array([[1, 5, 2], [8, 3, 3]]), ((1, 2), (3, 1)), {"mode": mode})
      for mode in ("linear_ramp", "mean", "maximum", "median")],
]


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=[f"{i}-{call[0]}" for i, call in enumerate(CALLS)])
def test_function_agrees_with_numpy(name, args, kwargs):
    agrees(name, *args, **kwargs)


@pytest.mark.parametrize("seed", range(20))
def test_random_moves_agree_with_numpy(seed):
    """A random walk through functions that keep all elements, the same for both."""
    rng = np.random.default_rng(seed)
    x = np.arange(24).reshape(2, 3, 4)
    start = gg.tensor(xp.asarray(x * 1.0), requires_grad=True)
    y, steps = start, []
    for _ in range(6):
        axis, other = (int(a) for a in rng.integers(-x.ndim, x.ndim, size=2))
        choices = [("swapaxes", (axis, other)), ("moveaxis", (axis, other)), ("flip", (axis,)), ("roll", (axis + 9, axis)),
                   ("expand_dims", (axis,)), ("transpose", (tuple(map(int, rng.permutation(x.ndim))),)), ("squeeze", ()),
                   ("reshape", ((-1, *x.shape[:1]),)), ("rot90", (1, (0, -1)))]
        name, args = choices[rng.integers(9 if x.ndim > 1 else 8)]
        steps.append((name, args))
        x, y = getattr(np, name)(x, *args), getattr(gnp, name)(y, *args)
    same(y, x * 1.0, str(steps))
    weights = rng.normal(size=x.shape)
    y.backward(gg.tensor(xp.asarray(weights)))
    assert start.grad.data.reshape(-1)[x].tolist() == weights.tolist()          # x says where each element came from


@pytest.mark.parametrize(("x", "width", "kwargs"), PADS, ids=[str(i) for i in range(len(PADS))])
def test_pad_agrees_with_numpy(x, width, kwargs):
    agrees("pad", x, width, **kwargs)


@pytest.mark.parametrize(("shape", "window", "axis"), [((6,), 3, None), ((4, 5), (2, 3), None), ((4, 5), 2, 1),
                                                       ((4, 5), (2, 2), (1, 1))])
def test_windows_agree_with_numpy_and_overlaps_add_up(shape, window, axis):
    agrees("sliding_window_view", normal(*shape), window, axis, reference=np.lib.stride_tricks.sliding_window_view)


def test_shape_ndim_and_size_are_python_numbers():
    x = normal(2, 3)
    assert (gnp.shape(x), gnp.ndim(gg.tensor(x)), gnp.size([1, 2]), gnp.size(x, -1)) == ((2, 3), 2, 2, 3)


def test_split_and_concatenate_are_inverse_and_transposed():
    x = gg.tensor(normal(2, 7), requires_grad=True)
    parts = gnp.array_split(x, 3, axis=1)
    same(gnp.concatenate(parts, axis=1), x.data, "concatenate")
    parts[1].sum().backward()                    # the other parts are not used
    assert x.grad.data.tolist() == [[0, 0, 0, 1, 1, 0, 0]] * 2


def test_gradient_of_a_float32_part_beside_float64_is_float32():
    x = gg.tensor(xp.ones(2, "f4"), requires_grad=True)
    gnp.concatenate([x, xp.ones(2)]).sum().backward()
    assert x.grad.dtype == np.float32


def test_pad_value_has_a_gradient_of_one_for_each_padded_element():
    value = gg.tensor(2.0, requires_grad=True)
    y = gnp.pad(xp.ones((2, 2)), 1, constant_values=value)
    same(y, np.pad(np.ones((2, 2)), 1, constant_values=2.0), "pad")
    y.sum().backward()
    assert value.grad.item() == 12


X, M = np.array([0.5, 1.0, 2.0]), np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize("joined", [
    lambda r, c, x, m: r[x, 0, 1:4, 0:1:5j, :0.5:0.1], lambda r, c, x, m: r[x.astype("f4"), 1.0, True],
    lambda r, c, x, m: r["0,2", x, x], lambda r, c, x, m: r["-1", m, m], lambda r, c, x, m: r["1,2,0", x, x],
    lambda r, c, x, m: r["0,3,1", x, x], lambda r, c, x, m: r[m, m], lambda r, c, x, m: r[5:0:-2],
    lambda r, c, x, m: c[x, 0:3, x], lambda r, c, x, m: c[m, 7 * m], lambda r, c, x, m: c[x[None], 0, 1j]], ids=range(11))
def test_joining_in_brackets_agrees_with_numpy(joined):
    x, m = xp.asarray(X), xp.asarray(M)
    same(joined(gg.r_, gg.c_, x, m), joined(np.r_, np.c_, X, M), "r_")


def test_joining_in_brackets_is_differentiable():
    gg.check_grads(lambda x: gg.c_[gg.r_[x, x * x, 1], gg.r_[0:1:5j, x[:2]]], (xp.asarray(X),))


def test_nested_lists_of_tensors_become_one_tensor():
    x = gg.tensor(3.0, requires_grad=True)
    y = gnp.stack([[x, 1.0], [2.0, x]])
    y.sum().backward()
    assert y.shape == (2, 2)
    assert x.grad.item() == 2


def test_views_are_views_and_copies_are_copies():
    x = xp.arange(6.0)
    for view in (gnp.reshape(x, (2, 3)), gnp.ravel(x), gnp.flip(x), gnp.expand_dims(x, 0), gnp.transpose(gnp.reshape(x, (2, 3)))):
        assert np.shares_memory(view.data, x)
    assert not np.shares_memory(gnp.reshape(x, (2, 3), copy=True).data, x)


def test_shape_functions_inside_vmap_leave_the_batch_alone():
    x = normal(4, 2, 3)
    for f, g in [(lambda r: gnp.tile(gnp.ravel(r), 2), lambda r: np.tile(np.ravel(r), 2)),
                 (lambda r: gnp.pad(r, 1, mode="reflect"), lambda r: np.pad(r, 1, mode="reflect")),
                 (lambda r: gnp.vstack([r, xp.ones(3)]), lambda r: np.vstack([r, np.ones(3)])),
                 (lambda r: gnp.repeat(r, [1, 2], axis=0), lambda r: np.repeat(r, [1, 2], axis=0))]:
        assert_close(gg.vmap(f)(xp.asarray(x)), np.stack([g(r) for r in x]))


BAD = [
    (lambda: gnp.reshape(normal(2, 3), (4, 2)), ShapeError, r"a shape of 6 elements for \(2, 3\), got \(4, 2\)"),
    (lambda: gnp.reshape(normal(2, 3), (-1, -1)), ShapeError, "One length may be -1"),
    (lambda: gnp.reshape(normal(2, 3), 6.0), DtypeError, "reshape: expected an int as a length, got 6.0"),
    (lambda: gnp.reshape(normal(2, 3), 6, order="Z"), ArgumentError, "reshape: expected order to be one of"),
    (lambda: gnp.squeeze(normal(2, 1), 0), ShapeError, r"squeeze: expected axes of length 1, got axis 0 of shape \(2, 1\)"),
    (lambda: gnp.transpose(normal(2, 3), (0,)), AxisError, "transpose: expected all 2 axes"),
    (lambda: gnp.transpose(normal(2, 3), (0, 0)), AxisError, "transpose: expected different axes"),
    (lambda: gnp.swapaxes(normal(2, 3), 0, 2), AxisError, "swapaxes: expected an axis from -2 to 1, got 2"),
    (lambda: gnp.swapaxes(1.0, 0, 0), AxisError, r"from none, for an array of shape \(\)"),
    (lambda: gnp.moveaxis(normal(2, 3), (0, 1), 0), AxisError, "moveaxis: expected as many places as axes"),
    (lambda: gnp.matrix_transpose(normal(2)), ShapeError, "matrix_transpose: expected at least two axes"),
    (lambda: gnp.broadcast_to(normal(2, 3), (3, 3)), ShapeError, r"broadcast_to: expected a shape that \(2, 3\) broadcasts to"),
    (lambda: gnp.broadcast_to(normal(2), -1), ShapeError, "broadcast_to: expected lengths of at least 0"),
    (lambda: gnp.broadcast_arrays(normal(2), normal(3)), ShapeError, "broadcast_arrays: expected shapes that fit"),
    (lambda: gnp.concatenate([]), ArgumentError, "concatenate: expected at least one array, got none"),
    (lambda: gnp.concatenate([normal(2, 3), normal(2, 2)]), ShapeError, "concatenate: expected shapes that agree but for axis 0"),
    (lambda: gnp.concatenate([1.0, 2.0]), ShapeError, "concatenate: expected arrays with at least one axis"),
    (lambda: gnp.concatenate([normal(2) * 1j], dtype="f8"), DtypeError, "expected arrays that may become dtype float64"),
    (lambda: gnp.stack([normal(2)], dtype=int), DtypeError, "dtype int64 by the rule .same_kind."),
    (lambda: gnp.vstack([normal(2)], dtype="f4", casting="safe"), DtypeError, "by the rule 'safe', got float64"),
    (lambda: gnp.concatenate(3), DtypeError, "concatenate: expected a list of arrays, got 3"),
    (lambda: gnp.stack([normal(2), normal(3)]), ShapeError, "stack: expected arrays of one shape"),
    (lambda: gnp.stack([normal(2)], axis=3), AxisError, "stack: expected an axis from -2 to 1, got 3"),
    (lambda: gnp.stack([normal(2)], out=np.empty((1, 2))), ConversionError, "stack: expected a Tensor as out"),
    (lambda: gnp.block([[normal(2)], normal(2)]), ShapeError, "block: expected lists of one depth"),
    (lambda: gnp.block((1.0, 2.0)), DtypeError, "block: expected nested lists"),
    (lambda: gnp.r_["r", normal(2)], ArgumentError, "r_: expected one to three ints in the string, got 'r'"),
    (lambda: gnp.c_[()], ArgumentError, "c_: expected at least one array, got none"),
    (lambda: gnp.r_[1:], ArgumentError, "r_: expected a slice with a stop"),
    (lambda: gnp.split(normal(5), 2), ArgumentError, "split: expected a number of parts that divides 5, got 2"),
    (lambda: gnp.split(normal(5), 0), ArgumentError, "split: expected a number of parts"),
    (lambda: gnp.vsplit(normal(5), 5), ShapeError, "vsplit: expected at least 2 axes"),
    (lambda: gnp.repeat(normal(3), [1, 2]), ShapeError, "repeat: expected one count or 3, got 2"),
    (lambda: gnp.repeat(normal(3), -1), ArgumentError, "repeat: expected counts of at least 0"),
    (lambda: gnp.roll(normal(3, 3), (1, 2, 3), (0, 1)), ShapeError, "roll: expected as many shifts as axes"),
    (lambda: gnp.rot90(normal(3, 3), 1, (0,)), AxisError, "rot90: expected two axes"),
    (lambda: gnp.pad(normal(3), 1, "mirror"), ArgumentError, "pad: expected mode to be one of"),
    (lambda: gnp.pad(normal(3), -1), ArgumentError, "pad: expected widths of at least 0"),
    (lambda: gnp.pad(normal(3), ((1, 1), (1, 1))), ShapeError, "pad: expected pad_width as a number"),
    (lambda: gnp.pad(normal(3), 1, "edge", constant_values=1), ArgumentError, "pad: expected options of mode 'edge'"),
    (lambda: gnp.pad(normal(0), 1, "edge"), ArgumentError, "pad: expected elements to copy along axis 0"),
    (lambda: gnp.delete(normal(3), 5), ArgumentError, "delete: expected places among 3 elements, got 5"),
    (lambda: gnp.meshgrid(normal(3), indexing="ji"), ArgumentError, "meshgrid: expected indexing to be one of"),
    (lambda: gnp.vander(normal(2, 2)), ShapeError, "vander: expected one axis"),
    (lambda: gnp.sliding_window_view(normal(3), 4), ShapeError, "sliding_window_view: expected a window of 0 to 3 along axis 0"),
    (lambda: gnp.ravel("text"), DtypeError, "ravel: expected an array or numbers, got 'text'"),
    (lambda: gnp.ravel(np.array(["a"])), DtypeError, "ravel: expected numbers, got dtype <U1"),
    (lambda: gnp.stack([[1.0], [1.0, 2.0]]), ShapeError, "stack: expected arrays of one shape"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_argument_is_an_error_that_says_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_arrays_of_a_meshgrid_are_their_own():
    v = gg.tensor([1.0, 2.0], requires_grad=True)
    for options in ({}, {"sparse": True}):
        a, b = np.meshgrid(v, v, **options)
        a[0, 0] = 5.0
        assert (v.tolist(), b[0, 0].item()) == ([1, 2], 1)
        a.sum().backward()
        assert v.grad.tolist() == ([1, 2] if not options else [0, 1])
        v.zero_grad()
