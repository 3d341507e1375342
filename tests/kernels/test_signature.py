"""The parser of kernel signatures and the typing of arguments, on texts and on every .cu file of the project."""
import math
from pathlib import Path

import numpy
import pytest

from gpugrad.errors import ArgumentError, DtypeError
from gpugrad.kernels.signature import (
    DTYPES,
    SignatureError,
    c_text,
    element_of,
    signatures,
)

KERNELS = sorted((Path(__file__).resolve().parents[2] / "kernels").glob("*.cu"))


def only(text):
    (signature,) = signatures(text).values()
    return signature


def bound(declared, value_types=("float",), head="template <typename T> "):
    (p,) = only(f"{head}__global__ void k({declared}) {{}}").bind(value_types if head else ())
    return p


@pytest.mark.parametrize("head", [
    "__global__ void k", "static __global__ void k", "__global__ static void k", 'extern "C" __global__ void\nk',
    "__global__ void __launch_bounds__(256) k", "__global__ __launch_bounds__(32 * (4 + 4), 2) void k",
    "__global__\nvoid\n__launch_bounds__(WARP * ROWS)\n    k",
])
def test_name_is_found_whatever_stands_round_it(head):
    assert str(only(f"{head}(const float* x, int n) {{ f<<<1, 2>>>(x); }}")) == "k(x, n)"


@pytest.mark.parametrize(("written", "base", "pointers", "const"), [
    ("const T* __restrict__ x", "T", 1, True), ("T const * x", "T", 1, True), ("T *__restrict x", "T", 1, False),
    ("T* const x", "T", 1, False), ("const T* const* x", "T", 2, True), ("unsigned long long x",
    "unsigned long long", 0, False),
    ("const long long int x", "long long int", 0, True), ("acc_t<T>* x", "acc_t<T>", 1, False), ("float4*x",
    "float4", 1, False),
    ("const void* x", "void", 1, True),
])
def test_parameter_is_taken_apart(written, base, pointers, const):
    (p,) = only(f"__global__ void k({written}) {{}}").parameters
    assert (p.name, p.base, p.pointers, p.const) == ("x", base, pointers, const)


def test_comments_and_defaults_hold_no_parameters():
    signature = only("""// __global__ void fake(int a) {}
    template <typename T, int V = 4, bool MASK = false>  // (T, V)
    __global__ void k(const T* x,   // (R, C), read
                      T* y /* (R, C), a comma */, long long n = 1 << 2,
                      float s = f(1, 2), T* z = nullptr);""")
    assert [p.name for p in signature.parameters] == ["x", "y", "n", "s", "z"]
    assert [p.default for p in signature.parameters] == [None, None, "1 << 2", "f(1, 2)", "nullptr"]
    assert [(t.name, t.kind, t.default) for t in signature.templates] == [("T", "type", None), ("V", "int", "4"),
    ("MASK", "bool", "false")]
    assert signature.expression(("float32",)) == "k<float, 4, false>"
    assert signature.expression((numpy.float16, 8, True)) == "k<__half, 8, true>"


def test_null_belongs_to_the_parameter_its_comment_stands_beside():
    signature = only("""__global__ void k(const float* a /* or null */, float* b,  // null for one slice
                                          float* c, float* nullable, int n /* null */, float* d = nullptr) {}""")
    assert [p.name for p in signature.parameters if p.nullable] == ["a", "b", "d"]


def test_neighbouring_templates_are_not_confused():
    found = signatures("template <typename A> struct Add { A a; };\ntemplate <typename T>\n__global__ void f(T* x) {}\n"
                       "__global__ void g(float* x) { if (a < b && c > d) return; }\n__global__ void h(int n) {}")
    assert {name: [t.name for t in s.templates] for name, s in found.items()} == {"f": ["T"], "g": [], "h": []}


@pytest.mark.parametrize(("c", "expected"), [
    ("float", ("float32", 1)), ("unsigned", ("uint32", 1)), ("unsigned int", ("uint32", 1)),
    ("int unsigned", ("uint32", 1)),
    ("long long", ("int64", 1)), ("long long int", ("int64", 1)), ("unsigned long long int", ("uint64", 1)),
    ("short int", ("int16", 1)),
    ("signed char", ("int8", 1)), ("unsigned char", ("uint8", 1)), ("signed", (None, 0)), ("float4", ("float32", 4)),
    ("double2", ("float64", 2)), ("uint4", ("uint32", 4)), ("float3", ("float32", 1)), ("longlong2", ("int64", 2)),
    ("acc_t<__half>", ("float32", 1)), ("acc_t<double>", ("float64", 1)), ("long", (None, 0)),
    ("float9", (None, 0)), ("Pair", (None, 0)),
])
def test_c_types_have_the_dtypes_of_their_width(c, expected):
    assert element_of(c) == expected


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_survives_the_way_through_c(name):
    assert element_of(c_text(name)) == (name, 1)


@pytest.mark.parametrize(("declared", "T", "V", "alignment"), [
    ("const T* x", "float32", 4, 16), ("const T* x", "float64", 2, 16), ("const T* x", "float16", 8, 16),
    ("const T* x", "float32", 1, 4),
    ("const T* x", "float32", 8, 16), ("unsigned* x", "float32", 4, 4), ("acc_t<T>* x", "float32", 4, 4),
    ("float4* x", "float32", 1, 16),
    ("T** x", "float32", 4, 8), ("void* x", "float32", 4, 1),
])
def test_alignment_follows_vector_width_and_vector_types(declared, T, V, alignment):
    assert bound(declared, (T, V), "template <typename T, int V> ").alignment == alignment


@pytest.mark.parametrize(("declared", "value", "expected"), [
    ("float s", 0.1, numpy.float32(0.1)), ("float s", 3, numpy.float32(3)),
    ("float s", numpy.float64(0.5), numpy.float32(0.5)),
    ("float s", -math.inf, numpy.float32(-math.inf)), ("T s", 1e300, numpy.float64(1e300)),
    ("__half s", 0.1, numpy.float16(0.1)),
    ("long long n", 2**62, numpy.int64(2**62)), ("long long n", numpy.int32(7), numpy.int64(7)),
    ("int n", -(2**31), numpy.int32(-(2**31))),
    ("unsigned n", 2**32 - 1, numpy.uint32(2**32 - 1)), ("bool b", True, numpy.bool_(True)),
    ("bool b", numpy.False_, numpy.bool_(False)),
    ("size_t n", 2**64 - 1, numpy.uint64(2**64 - 1)),
])
def test_numbers_become_the_exact_c_type(declared, value, expected):
    result = bound(declared, ("double",)).convert(value, "k: kernels/k.cu")
    assert type(result) is type(expected)
    assert result == expected


def test_nan_passes_by_value():
    assert math.isnan(bound("float s").convert(math.nan, "k"))


@pytest.mark.parametrize(("declared", "value", "error"), [
    ("int n", 2**31, ArgumentError), ("int n", -(2**31) - 1, ArgumentError), ("unsigned n", -1, ArgumentError),
    ("char c", 128, ArgumentError),
    ("long long n", 2**63, ArgumentError), ("float s", 1e39, ArgumentError), ("float s", 1 << 2000, ArgumentError),
    ("__half s", 70000, ArgumentError), ("int n", 1.0, DtypeError), ("int n", True, DtypeError),
    ("int n", numpy.float32(1), DtypeError),
    ("float s", True, DtypeError), ("float s", 1j, DtypeError), ("float s", "1", DtypeError),
    ("float s", numpy.ones(1), DtypeError),
    ("bool b", 1, DtypeError), ("int n", None, DtypeError),
], ids=lambda v: repr(v)[:30])
def test_numbers_that_do_not_fit_are_refused_by_name(declared, value, error):
    with pytest.raises(error, match=rf"k: kernels/k.cu needs .*`{declared.split()[-1]}`"):
        bound(declared).convert(value, "k: kernels/k.cu")


@pytest.mark.parametrize("declared", ["long n", "Pair p", "__nv_bfloat16 s", "float4 v", "Pair* p", "acc_t<T> x[3]",
    "const T& x", "T"])
def test_what_cannot_be_passed_is_refused_when_it_is_declared(declared):
    with pytest.raises(SignatureError, match=r"k: expected parameter|signature: expected"):
        bound(declared)


@pytest.mark.parametrize("arguments", [(), ("float", 4, True)])
def test_template_arguments_are_counted(arguments):
    with pytest.raises(ArgumentError, match=r"k: expected template arguments \(T, V\)"):
        only("template <typename T, int V> __global__ void k(T* x) {}").expression(arguments)


def test_complex_has_no_kernel():
    with pytest.raises(DtypeError, match="complex64"):
        c_text(numpy.dtype("complex64"))


def test_two_kernels_of_one_name_must_agree():
    assert only("__global__ void k(int n);\n__global__ void k(int n) {}").name == "k"
    with pytest.raises(SignatureError, match="two that differ"):
        signatures("__global__ void k(int n) {}\n__global__ void k(float n) {}")


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.name)
def test_every_kernel_of_the_project_can_be_typed(path):
    text = path.read_text()
    found = signatures(text)
    assert len(found) == text.count("__global__ void") > 0
    for signature in found.values():
        arguments = tuple({"type": "float32", "bool": True, "int": 1}[t.kind] for t in signature.templates)
        parameters = signature.bind(arguments)
        assert any(p.written for p in parameters), f"{signature} writes nothing"
        assert all(p.dtype is not None for p in parameters)


def test_words_by_value_are_one_struct():
    text = "__global__ void k(const __grid_constant__ Words<4> few, float* y) {}"
    few, y = signatures(text)["k"].bind(())
    assert not few.pointer and y.pointer
    struct = few.convert(numpy.arange(4, dtype=numpy.uint64), "k")
    assert struct.shape == (1,) and struct.tobytes() == numpy.arange(4, dtype=numpy.uint64).tobytes()
    for wrong in (numpy.zeros(3, numpy.uint64), numpy.zeros(4), 1):
        with pytest.raises(DtypeError, match="needs 4 uint64 in a NumPy array as `few`"):
            few.convert(wrong, "k")
