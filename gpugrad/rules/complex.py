"""Parts of complex numbers, and the functions of modulus and sign. None is holomorphic, so each rule gives both modes.

The gradient of a real loss is the direction of steepest ascent; the gradient of abs(z) is therefore z / abs(z).
1j stands on the right of a product: Python's complex times a NumPy scalar would be Python's again.
"""
from gpugrad.arrays import choose
from gpugrad.graph.primitive import Primitive, View, aligned, elementwise
from gpugrad.rules.elementwise import off_zero


def cast(m, g, x):
    return m.astype(g, dtype=x.dtype) if g.dtype != x.dtype else g


Primitive("conj", lambda m, g, want, y, x: (m.conj(g),), jvp=lambda m, ts, y, x: m.conj(ts[0]),
          impl=lambda xp: lambda x: x.conjugate() if x.dtype.kind == "c" else x, batch=aligned("conj"))
real = View("real", lambda m, g, want, y, x: (cast(m, g, x),), jvp=lambda m, ts, y, x: m.real(ts[0]),
            impl=lambda xp: lambda x: x.real, batch=aligned("real"))
imag = View("imag", lambda m, g, want, y, x: (g * 1j if x.dtype.kind == "c" else None,), jvp=lambda m, ts, y, x: m.imag(ts[0]),
            impl=lambda xp: lambda x: x.imag, batch=aligned("imag"))
real.put = lambda m, x, v: v + m.imag(x) * 1j                    # an infinite part makes the other NaN
imag.put = lambda m, x, v: m.real(x) + v * 1j


def modulus_jvp(m, ts, y, x):
    t, s = ts[0], m.sign(x)
    return m.real(m.conj(s) * t) if t.dtype.kind == "c" else s * t


elementwise("abs", lambda m, y, x: m.sign(x)).jvp = modulus_jvp                        # 0 at 0
elementwise("fabs", lambda m, y, x: m.sign(x))                                         # real only; 0 at 0


def turned(m, g, y, x):
    """The part of g across z over abs(z): how the unit number y = z / abs(z) turns. Its own transpose. 0 at 0."""
    if x.dtype.kind != "c":
        return None
    return y * (m.imag(m.conj(y) * g) / off_zero(m.abs(x))) * 1j


Primitive("sign", lambda m, g, want, y, x: (turned(m, g, y, x),), jvp=lambda m, ts, y, x: turned(m, ts[0], y, x),
          impl=choose.sign, keep="y x", batch=aligned("sign"))
