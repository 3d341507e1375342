"""The functions of the surface, made over NumPy's, and the methods and operators that call them."""

import inspect
import types
from typing import Any

import numpy as np

from gpugrad.cudasim import memory

from .array import IMPLICIT, NUMBERS, done, finished, foreign, ndarray, operand, unwritten, view
from .blocks import submit
from .device import CompileException, current
from .streams import library_called, waited
from .surface import ARRAY_LIKES, FUNCTIONS, LIKE_UFUNCS, OF_ARRAYS, UFUNCS

WAITING = {"nonzero", "flatnonzero", "argwhere", "unique", "unique_values", "extract", "compress", "union1d", "intersect1d",
           "setdiff1d", "setxor1d", "bincount", "allclose", "histogram"}
GEMMS = {"dot", "matmul", "tensordot", "einsum", "inner", "vdot", "kron"}
TAKES_LISTS = frozenset(ARRAY_LIKES.split())
FEW = 8                           # more arrays than these CuPy joins in one launch
IN_PLACE = {"fill_diagonal", "put", "put_along_axis"}
SOLVERS = {"cholesky", "det", "eig", "eigh", "eigvals", "eigvalsh", "inv", "pinv", "qr", "slogdet", "solve", "svd"}
LIBRARIES = {**dict.fromkeys({*GEMMS, "linalg.matrix_power"}, "cuBLAS"), **{f"linalg.{name}": "cuSOLVER" for name in SOLVERS}}
OF_REALS = {"cupy_logical_and", "cupy_logical_or", "cupy_logical_xor", "cupy_logical_not"}       # where NumPy takes complex, too
UNCOMPILED = {"cupy_arctan2", "cupy_atan2", "cupy_copysign", "cupy_hypot", "cupy_nextafter"}     # CuPy has text for complex here
#: The types of the elements that `ufunc.at` knows atomics for.
AT = {"add": "iIlLqQefd", "subtract": "iI", "maximum": "iIlLqQfd", "minimum": "iIlLqQfd",
      "bitwise_and": "iIlLqQ", "bitwise_or": "iIlLqQ", "bitwise_xor": "iIlLqQ"}
PLAIN_OPERANDS = {"searchsorted", "pad"}


class ufunc:
    """An elementwise function: arrays of a device and numbers in, a C-contiguous array out, one launch."""

    def __init__(self, name, function):
        self.name, self.function = f"cupy_{name}", function
        self.nin, self.nout = getattr(function, "nin", 1), getattr(function, "nout", 1)
        self.__name__ = name

    def __repr__(self):
        return f"<ufunc '{self.name}'>"

    def __call__(self, *given, out=None, dtype=None, casting="same_kind"):
        args = list(given)
        if len(args) > self.nin:
            if out is not None:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            args, out = args[:self.nin], tuple(args[self.nin:]) if self.nout > 1 else args[self.nin:][0]
        if len(args) != self.nin or len(given) not in (self.nin, self.nin + self.nout):
            raise TypeError(f"Wrong number of arguments for {self!r}. It must be either {self.nin} or {self.nin + self.nout} "
                            f"(with outputs), but given {len(args)}.")
        values = [operand(x) for x in args]
        if self.name in OF_REALS and any(map(np.iscomplexobj, values)):
            raise TypeError(f"Wrong type ({tuple(map(np.result_type, values))}) of arguments for {self.name}")
        if self.name in UNCOMPILED and any(map(np.iscomplexobj, values)):
            raise CompileException(f'error: no instance of overloaded function "{self.__name__}" matches the argument list')
        if isinstance(out, tuple) and self.nout == 1:
            out, = out
        if out is not None and not isinstance(out, tuple) and self.nout > 1:
            raise ValueError("'out' must be a tuple of arrays")
        how = {} if dtype is None else {"dtype": dtype}
        if isinstance(self.function, np.ufunc):
            how["casting"] = casting
        outs = out if isinstance(out, tuple) else (out,)
        if out is not None:
            if not all(isinstance(x, ndarray) for x in outs):
                raise TypeError(f"return arrays must be of ArrayType, got {[type(x) for x in outs]}")
            how["out"] = tuple(map(operand, outs)) if len(outs) > 1 else operand(out)
        reads = [x for x in values if isinstance(x, np.ndarray)]

        def run():
            with np.errstate(all="ignore"):
                made = self.compute(values, how)
            return [np.asarray(y, order="C") for y in (made if self.nout > 1 else (made,))]
        if out is not None:
            submit(self.name, current(), reads, [x._host for x in outs], run)
            return out
        made = finished(self.name, current(), reads, run(), run)
        return tuple(made) if self.nout > 1 else made[0]

    def compute(self, values, how):
        """What CuPy gives where NumPy refuses: signs of bools, and negative powers of integers, which are 0, 1 or -1."""
        if self.name == "cupy_sign" and np.result_type(values[0]).kind == "b":
            values = [np.asarray(values[0], np.int8)]
        if self.__name__ in ("power", "pow") and not how.get("dtype") and np.result_type(*values).kind in "iu":
            a, b = np.broadcast_arrays(*values)
            if (b < 0).any():
                y = np.asarray(self.function(values[0], np.maximum(values[1], 0)))
                inverse = np.where(abs(a) == 1, np.where(b % 2 == 0, 1, a), 0)
                y = np.where(b < 0, inverse, y).astype(y.dtype)
                if how.get("out") is not None:
                    how["out"][...] = y
                return y
        return self.function(*values, **how)

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        return self._method("reduce", array, axis=axis, dtype=dtype, keepdims=keepdims, out=out)

    def accumulate(self, array, axis=0, dtype=None, out=None):
        return self._method("accumulate", array, axis=axis, dtype=dtype, out=out)

    def outer(self, A, B, **kwargs):
        return self(A[(..., *[None] * B.ndim)], B, **kwargs)

    def at(self, a, indices, b=None):
        if self.__name__ not in AT:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        if a.dtype.char not in AT[self.__name__]:
            known = ", ".join(dict.fromkeys(np.dtype(char).name for char in AT[self.__name__]))
            raise TypeError(f"cupy.{self.__name__}.at only supports {known} as data type")
        places = tuple([operand(i) if isinstance(i, ndarray) else i for i in indices]) if isinstance(indices, tuple) \
            else operand(indices) if isinstance(indices, ndarray) else indices
        value = operand(b)
        host, among = operand(a), places if isinstance(places, tuple) else (places,)
        held = [x for x in (host, *among, value) if isinstance(x, np.ndarray)]
        submit(f"{self.name}_at", current(), [host], [host], lambda: self.function.at(host, places, value), holds=held)

    def _method(self, method, array, out=None, **how):
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.name}.{method}` is not supported yet")
        def run():
            return getattr(self.function, method)(host, **how)
        host, name = operand(array), f"{self.name}_{method}"
        if out is None:
            return done(name, current(), [host], run)
        submit(name, current(), [host], [operand(out)], lambda: np.copyto(out._host, run(), casting="unsafe"))
        return out


def signature_of(text):
    """inspect.Signature of "name(a, axis=None)"."""
    scope: dict = {}
    exec(f"def {text}: pass", {"bool": bool, "float": float, "int": int}, scope)        # the table is ours
    return inspect.signature(scope.popitem()[1])


def function(path, signature):
    """CuPy's function of this name and signature: NumPy's, over the memory of the arrays, as one launch unless it is a view."""
    name = path.rpartition(".")[2]
    place = np
    for part in path.split("."):
        place = getattr(place, part)
    numpys = place
    accepted = accepted_by(numpys)

    def run(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        if "out" in bound.arguments and "out" not in kwargs:           # given by its place
            kwargs["out"] = bound.arguments.pop("out")
            args, kwargs = bound.args, {**bound.kwargs, **kwargs}
        refused(path, bound.arguments)
        arrays: list = []
        out = kwargs.pop("out", None)
        hosts = unwrapped(args, arrays, name)
        options = {key: unwrapped(value, arrays, name) for key, value in kwargs.items()
                   if accepted is None or key in accepted or value is not None}
        if name in ("sort", "argsort"):
            options["kind"] = "stable"
        if name == "put":
            options.setdefault("mode", "wrap")
        options.pop("blocking", None)
        library = LIBRARIES.get(path)
        if library:
            library_called(library)
        if name in WAITING:
            waited()

        def compute():
            with np.errstate(all="ignore"):
                return calm(numpys, hosts, options, name)
        if name in IN_PLACE:
            submit(f"cupy_{name}", current(), on_device(arrays), on_device(arrays[:1]), compute)
            return None
        if out is not None:
            if np.shape(compute()) != out.shape:
                raise ValueError("Out shape is mismatched")
            submit(f"cupy_{name}", current(), on_device(arrays), [operand(out)],
                   lambda: np.copyto(out._host, compute(), casting="unsafe"))
            return out
        if name in ("concatenate", "stack") and len(arrays) <= FEW and bound.arguments.get("axis", 0) is not None:
            return copied_together(compute(), arrays, bound.arguments.get("axis", 0), name)
        return wrapped(compute, arrays, name)

    run.__name__ = run.__qualname__ = name
    setattr(run, "__signature__", signature)  # noqa: B010 - a function's type has no such attribute
    return run


def refused(name, given):
    """Raise what CuPy raises where NumPy takes more."""
    first: Any = next(iter(given.values()), None)
    for x in first if name in OF_ARRAYS else () if name in TAKES_LISTS else (first,):
        if not (isinstance(x, ndarray) or hasattr(x, "__cuda_array_interface__")):
            raise TypeError(f"{name}: a cupy.ndarray object was expected, got {type(x)}")
    if name in ("sort", "argsort") and given.get("kind") not in (None, "stable"):
        raise ValueError("kind can only be None or 'stable'")
    if name == "select" and not all(isinstance(x, ndarray) for x in given["choicelist"]):
        raise TypeError("choicelist only accepts lists of cupy ndarrays")
    if name == "choose" and not isinstance(given["choices"], ndarray):
        raise AttributeError(f"{type(given['choices']).__name__!r} object has no attribute 'shape'")
    if name == "einsum" and "out" in given.get("kwargs", ()):
        raise TypeError("Did not understand the following kwargs: ['out']")
    if name == "pad" and any(isinstance(x, ndarray) for x in leaves(given.get("kwargs", {}))):
        raise TypeError(IMPLICIT)


def copied_together(like, arrays, axis, name):
    """One array of NumPy's shape and dtype, in C order, from a few: as CuPy does it, by a launch for each."""
    out, start = unwritten(np.empty(like.shape, like.dtype), current()), 0
    for x in arrays:
        stop = start + (x.shape[axis] if name == "concatenate" else 1)
        part = (slice(None),) * (axis % like.ndim) + (slice(start, stop) if name == "concatenate" else start,)
        out[part], start = x, stop
    return out


def calm(numpys, args, options, name):
    """CuPy's linear algebra does not look whether it succeeded: singular input gives NaN."""
    try:
        return numpys(*args, **options)
    except np.linalg.LinAlgError as error:
        if "must be" in str(error) or name not in ("inv", "solve", "cholesky"):
            raise
        like = args[-1] if name == "solve" else args[0]
        return np.full(like.shape, np.nan, np.result_type(like.dtype, np.float32))


def accepted_by(numpys):
    try:
        return set(inspect.signature(numpys).parameters)
    except (TypeError, ValueError):
        return None


def leaves(tree):
    if isinstance(tree, tuple | list):
        for x in tree:
            yield from leaves(x)
    elif isinstance(tree, dict):
        yield from leaves(tuple(tree.values()))
    else:
        yield tree


def unwrapped(value, arrays, name):
    """The value with NumPy arrays in the place of ours, which are noted; NumPy's own are refused."""
    if isinstance(value, ndarray):
        arrays.append(value)
        return value._host
    if isinstance(value, tuple | list):
        return type(value)([unwrapped(x, arrays, name) for x in value]) if type(value) in (tuple, list) else value
    if isinstance(value, np.ndarray) and not (name in PLAIN_OPERANDS or (name in ("full", "full_like") and not value.ndim)):
        raise TypeError(f"Unsupported type {type(value)}")
    if foreign(value):
        raise TypeError(f"Unsupported type {type(value)}")
    if hasattr(value, "__cuda_array_interface__"):
        return operand(value)
    return value


def on_device(arrays):
    """The memory of arrays that a launch is to read, which must be on the current device; a view may be made of any."""
    return [operand(x) for x in arrays]


def wrapped(compute, arrays, name):
    """The results with our arrays in the place of NumPy's: views of what went in, or new memory that one launch wrote."""
    made = compute()
    ours = [view_of(y, arrays, name) for y in parts(made)]
    written = [i for i, y in enumerate(ours) if y is None]
    if written:
        kind, shown = ("gemm", "cublas_gemm") if name in GEMMS else ("cupy", f"cupy_{name}")
        new = finished(shown, current(), on_device(arrays), [parts(made)[i] for i in written],
                       lambda: [parts(compute())[i] for i in written], kind=kind)
        for i, y in zip(written, new, strict=True):
            ours[i] = y
    return rebuilt(made, iter(ours))


def rebuilt(made, ours):
    """NumPy's result with these arrays in the place of its own."""
    if isinstance(made, tuple | list):
        parts = [rebuilt(y, ours) for y in made]
        return type(made)(*parts) if hasattr(made, "_fields") else type(made)(parts)
    return next(ours) if isinstance(made, (np.ndarray, *NUMBERS)) else made


def parts(made):
    """The arrays and numbers of a result, in order."""
    return [y for y in leaves(made) if isinstance(y, (np.ndarray, *NUMBERS))]


def view_of(made, arrays, name):
    """A view of the array whose memory NumPy's result is in, or None."""
    if not isinstance(made, np.ndarray) or not made.size:
        return None
    owner = memory.owner_of(made)
    for x in arrays:
        if memory.owner_of(x._host) is owner:
            made.flags.writeable = True                    # CuPy has no arrays that may not be written to
            return view(x, made)
    return None


def install(namespace):
    """Fill the module's namespace, `linalg` and `fft` with the surface."""
    for name in UFUNCS.split():
        namespace[name] = ufunc(name, getattr(np, name))
    for name in LIKE_UFUNCS.split():
        namespace[name] = ufunc(name, getattr(np, name))
    for part in ("linalg", "fft"):
        namespace[part] = types.ModuleType(f"{namespace['__name__']}.{part}")
    namespace["linalg"].LinAlgError = np.linalg.LinAlgError
    for text in FUNCTIONS.strip().splitlines():
        path = text.partition("(")[0]
        part, _, name = path.rpartition(".")
        made = function(path, signature_of(text[len(path) - len(name):]))
        if part:
            setattr(namespace[part], name, made)
        else:
            namespace[name] = made
    methods(namespace)


METHODS = ("sum prod max min mean var std any all argmax argmin cumsum cumprod ptp dot take repeat trace nonzero round choose "
           "compress searchsorted argpartition")
OPERATORS = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
             "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
             "lshift": "left_shift", "rshift": "right_shift", "matmul": "matmul"}
COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def methods(namespace):
    """Give ndarray the methods that are functions of it, and its operators."""
    for name in METHODS.split():
        called = namespace[name]
        setattr(ndarray, name, lambda self, *a, called=called, **k: called(self, *a, **k))
    for short, name in OPERATORS.items():
        setattr(ndarray, f"__{short}__", binary(namespace[name], getattr(np, name), False))
        setattr(ndarray, f"__r{short}__", binary(namespace[name], getattr(np, name), True))
        if short != "matmul":
            setattr(ndarray, f"__i{short}__", lambda self, other, called=namespace[name]: called(self, other, out=self))
    for short, name in COMPARISONS.items():
        setattr(ndarray, f"__{short}__", binary(namespace[name], getattr(np, name), False))
    for short, name in UNARY.items():
        setattr(ndarray, f"__{short}__", lambda self, called=namespace[name]: called(self))


def binary(called, numpys, swapped):
    """An operator: another class with NumPy's protocol answers first, by the protocol that it has."""
    def run(self, other):
        if not isinstance(other, (ndarray, *NUMBERS)):
            protocol = getattr(type(other), "__array_ufunc__", run)
            if protocol is None:
                return NotImplemented
            if protocol is not run:
                return numpys(other, self) if swapped else numpys(self, other)
        return called(other, self) if swapped else called(self, other)
    return run
