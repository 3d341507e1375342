"""What kernels use of the C library's headers, which nvcc takes from the host and NVRTC does not have.

`printf`, `assert`, `memcpy`, `malloc` and the functions of <math.h> are NVRTC's own: those headers only have to be there.
"""

STDINT = """#pragma once
typedef signed char int8_t; typedef short int16_t; typedef int int32_t; typedef long long int64_t;
typedef unsigned char uint8_t; typedef unsigned short uint16_t; typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef long long intptr_t; typedef unsigned long long uintptr_t;
#define INT8_MAX 127
#define INT16_MAX 32767
#define INT32_MAX 2147483647
#define INT64_MAX 9223372036854775807ll
#define INT8_MIN (-INT8_MAX - 1)
#define INT16_MIN (-INT16_MAX - 1)
#define INT32_MIN (-INT32_MAX - 1)
#define INT64_MIN (-INT64_MAX - 1)
#define UINT8_MAX 255
#define UINT16_MAX 65535
#define UINT32_MAX 4294967295u
#define UINT64_MAX 18446744073709551615ull
"""
STDDEF = """#pragma once
#ifndef NULL
#define NULL 0
#endif
typedef long ptrdiff_t;
#define offsetof(type, member) __builtin_offsetof(type, member)
"""
LIMITS = """#pragma once
#define CHAR_BIT 8
#define SCHAR_MAX 127
#define SCHAR_MIN (-128)
#define UCHAR_MAX 255
#define CHAR_MAX SCHAR_MAX
#define CHAR_MIN SCHAR_MIN
#define SHRT_MAX 32767
#define SHRT_MIN (-32768)
#define USHRT_MAX 65535
#define INT_MAX 2147483647
#define INT_MIN (-INT_MAX - 1)
#define UINT_MAX 4294967295u
#define LONG_MAX 9223372036854775807l
#define LONG_MIN (-LONG_MAX - 1)
#define ULONG_MAX 18446744073709551615ul
#define LLONG_MAX 9223372036854775807ll
#define LLONG_MIN (-LLONG_MAX - 1)
#define ULLONG_MAX 18446744073709551615ull
"""
FLOAT = """#pragma once
#define FLT_MAX 3.402823466e+38f
#define FLT_MIN 1.175494351e-38f
#define FLT_EPSILON 1.192092896e-07f
#define FLT_DIG 6
#define FLT_MANT_DIG 24
#define DBL_MAX 1.7976931348623157e+308
#define DBL_MIN 2.2250738585072014e-308
#define DBL_EPSILON 2.2204460492503131e-16
#define DBL_DIG 15
#define DBL_MANT_DIG 53
"""
MATH = """#pragma once
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif
#define HUGE_VAL __longlong_as_double(0x7ff0000000000000ll)
#define M_E 2.7182818284590452354
#define M_LOG2E 1.4426950408889634074
#define M_LOG10E 0.43429448190325182765
#define M_LN2 0.69314718055994530942
#define M_LN10 2.30258509299404568402
#define M_PI 3.14159265358979323846
#define M_PI_2 1.57079632679489661923
#define M_PI_4 0.78539816339744830962
#define M_1_PI 0.31830988618379067154
#define M_2_PI 0.63661977236758134308
#define M_2_SQRTPI 1.12837916709551257390
#define M_SQRT2 1.41421356237309504880
#define M_SQRT1_2 0.70710678118654752440
"""
C = {"stdint": STDINT, "stddef": STDDEF, "limits": LIMITS, "float": FLOAT, "math": MATH,
     "stdio": "", "stdlib": STDDEF, "string": STDDEF, "assert": ""}
IN_STD = {
    "math": "abs acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 fabs fdim floor fma "
            "fmax fmin fmod hypot isfinite isinf isnan lgamma log log10 log1p log2 modf pow remainder round rint sin sinh sqrt "
            "tan tanh tgamma trunc",
    "stdint": "int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t intptr_t uintptr_t",
    "stddef": "size_t ptrdiff_t",
}
HEADERS = {f"{name}.h": text for name, text in C.items()} | {
    f"c{name}": text + "namespace std { " + "".join(f"using ::{known}; " for known in IN_STD.get(name, "").split()) + "}\n"
    for name, text in C.items()}
# Of the C++ library, with the headers of nvidia-cuda-cccl that stand for them.
CUDA_STD = ("algorithm", "array", "atomic", "bit", "chrono", "complex", "concepts", "functional", "initializer_list", "iterator",
            "limits", "new", "numeric", "optional", "ratio", "span", "tuple", "type_traits", "utility", "variant")
