"""einsum: any of NumPy's calls, as diagonals, sums and products of two operands at a time."""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy

from gpugrad.arrays import short
from gpugrad.errors import ArgumentError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy._arguments import as_tensors, to_dtype, write_out

__all__ = ["einsum", "einsum_path"]

DOTS = 0x2500          # axes that "..." stands for get letters from here on, the last axis the lowest


def einsum(*operands: Any, out: Any = None, dtype: Any = None, optimize: Any = True, **kwargs: Any) -> Tensor:
    """Sums of products by letters: einsum("ij,jk->ik", a, b) is a @ b.

    operands  "subscripts", a, b, ...; or a, [0, 1], b, [1, 2], ..., [0, 2] with ints for letters
    optimize  the order of the products: True, "greedy" or "optimal" choose one, False takes operands from left to right, and
              a path as einsum_path returns it is followed
    dtype     the dtype to compute in

    A letter twice in one operand takes a diagonal, a letter missing from the output is summed over, and without "->" the
    output has the letters that occur once, in order. "..." stands for any number of axes, which broadcast.

    Raises ShapeError where lengths do not fit, ArgumentError for subscripts that say nothing sensible.
    """
    unknown = set(kwargs) - {"order", "casting"}
    if unknown:
        raise ArgumentError(f"einsum: expected out, dtype or optimize, got {', '.join(sorted(unknown))}. See the documentation.")
    subscripts, xs = given(operands)
    xs = [to_dtype("einsum", x, dtype) for x in xs]
    kind = numpy.result_type(*[x.dtype for x in xs])
    plan = planned(subscripts, tuple([x.shape for x in xs]), frozen(optimize))
    if plan.ready:
        y = T.einsum(*xs, subscripts=plan.ready)
    else:
        pairs = [clean(x, term, plan.sizes) for x, term in zip(xs, plan.terms, strict=True)]
        for picked in plan.path:
            chosen = [pairs[i] for i in picked]
            pairs = [pair for i, pair in enumerate(pairs) if i not in picked]
            needed = plan.result + "".join([term for _, term in pairs])
            pairs.append(product(chosen, needed, None if pairs else plan.result))
        y = pairs[0][0]
    return write_out("einsum", out, y if y.dtype == kind else to_dtype("einsum", y, kind))


def einsum_path(*operands: Any, optimize: Any = "greedy", **kwargs: Any) -> tuple[list, str]:
    """The order in which `einsum` multiplies, in NumPy's form, and a line for each product."""
    subscripts, xs = given(operands)
    plan = planned(subscripts, tuple([x.shape for x in xs]), frozen(optimize))
    terms = ["".join(dict.fromkeys(term)) for term in plan.terms]
    lines = []
    for picked in plan.path:
        chosen = [terms[i] for i in picked]
        terms = [term for i, term in enumerate(terms) if i not in picked]
        terms.append(remaining(chosen, plan.result + "".join(terms)) if terms else plan.result)
        lines.append(f"{','.join(chosen)}->{terms[-1]}")
    return ["einsum_path", *plan.path], "\n".join(lines)


# reading ------------------------------------------------------------------------------------------------------------------

class Plan(NamedTuple):
    """What a call means, apart from the arrays: it is worked out once for each subscripts and shapes."""

    terms: list[str]                     # one letter for every axis of each operand
    result: str
    sizes: dict[str, int]                # the length of each letter's axis
    path: list[tuple[int, ...]]          # which operands to multiply, step by step
    ready: str                           # subscripts that the primitive takes as they are, or ""


def given(operands: Sequence) -> tuple[str, list[Tensor]]:
    """The subscripts as a string, and the operands."""
    if not operands:
        raise ArgumentError("einsum: expected subscripts and operands, got nothing. See the documentation.")
    if isinstance(operands[0], str):
        return operands[0], as_tensors("einsum", *operands[1:])
    lists = [letters(part) for part in operands[1::2]]
    subscripts = ",".join(lists) + ("->" + letters(operands[-1]) if len(operands) % 2 else "")
    return subscripts, as_tensors("einsum", *operands[0:len(operands) // 2 * 2:2])


@functools.lru_cache(1024)
def planned(subscripts: str, shapes: tuple[tuple[int, ...], ...], optimize: Any) -> Plan:
    terms, result = read(subscripts.replace(" ", ""), shapes)
    sizes = lengths_of(terms, shapes)
    cleaned = [cleaned_term(term, shape, sizes) for term, shape in zip(terms, shapes, strict=True)]
    ready = ""
    if len(terms) == 2 and cleaned == terms and all(c in result or c in terms[0] and c in terms[1] for c in "".join(terms)):
        ready = f"{terms[0]},{terms[1]}->{result}"
    return Plan(terms, result, sizes, path_of(optimize, cleaned, result, sizes), ready)


def frozen(optimize: Any) -> Any:
    """A path as tuples, so that it can be looked up."""
    if isinstance(optimize, list | tuple):
        return tuple([tuple(step) if isinstance(step, list | tuple) else step for step in optimize])
    return optimize


def read(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """(a term for each operand, the output's term): one letter for every axis."""
    left, arrow, right = subscripts.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ArgumentError(f"einsum: expected {len(terms)} operands for {subscripts!r}, got {len(shapes)}. "
                            "One term for each operand.")
    for term in (*terms, right):
        if not all(c.isascii() and c.isalpha() for c in term.replace("...", "", 1)):
            raise ArgumentError(f"einsum: expected letters and one '...' in each term, got {term!r} in {subscripts!r}. "
                                "Check the subscripts.")
    terms = [spelled(term, len(shape), subscripts) for term, shape in zip(terms, shapes, strict=True)]
    dots = "".join(sorted({c for term in terms for c in term if ord(c) >= DOTS}, reverse=True))
    if arrow:
        if dots and "..." not in right:
            raise ArgumentError(f"einsum: expected '...' in the output too, got {subscripts!r}. Write it, or name the axes.")
        result = right.replace("...", dots)
    else:
        every = "".join(terms)
        result = dots + "".join(sorted(c for c in set(every) if every.count(c) == 1 and ord(c) < DOTS))
    if len(set(result)) != len(result) or not set(result) <= set("".join(terms)):
        raise ArgumentError(f"einsum: expected output letters once each, and from the inputs, got {subscripts!r}. "
                            "Check behind '->'.")
    return terms, result


def letters(part: Any) -> str:
    """A list of ints and Ellipsis as a term; NumPy allows 52 of them."""
    try:
        return "".join(["..." if i is Ellipsis else "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[i] for i in part])
    except (TypeError, IndexError) as error:
        raise ArgumentError(f"einsum: expected a list of ints from 0 to 51, got {short(part)}. "
                            "Give one int for each axis.") from error


def spelled(term: str, ndim: int, subscripts: str) -> str:
    """The term with letters in place of "..."."""
    named = len(term.replace("...", ""))
    if named > ndim or (named < ndim and "..." not in term):
        raise ShapeError(f"einsum: expected {named} axes for term {term!r} of {subscripts!r}, got {ndim}. "
                         "Name every axis, or write '...'.")
    return term.replace("...", "".join([chr(DOTS + i) for i in reversed(range(ndim - named))]))


def lengths_of(terms: list[str], shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """The length of each letter's axis; a length of 1 gives way to any other."""
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for c, n in zip(term, shape, strict=True):
            if sizes.get(c, 1) not in (1, n) and n != 1:
                raise ShapeError(f"einsum: expected one length for {name_of(c)}, got {sizes[c]} and {n} in shapes "
                                 f"{', '.join(map(str, shapes))}. Check the subscripts.")
            sizes[c] = n if sizes.get(c, 1) == 1 else sizes[c]
    return sizes


def cleaned_term(term: str, shape: tuple[int, ...], sizes: dict[str, int]) -> str:
    """What `clean` makes of the term."""
    return "".join(dict.fromkeys([c for c, n in zip(term, shape, strict=True) if n == sizes[c]]))


def name_of(c: str) -> str:
    return f"letter {c!r}" if ord(c) < DOTS else "an axis of '...'"


# computing ----------------------------------------------------------------------------------------------------------------

def clean(x: Tensor, term: str, sizes: dict[str, int]) -> tuple[Tensor, str]:
    """x without letters named twice and without axes of length 1 that stand for longer ones."""
    for c in dict.fromkeys(term):
        while term.count(c) > 1:
            i, j = term.index(c), term.index(c, term.index(c) + 1)
            if x.shape[i] != x.shape[j]:
                raise ShapeError(f"einsum: expected one length for {name_of(c)}, got {x.shape[i]} and {x.shape[j]}. "
                                 "A diagonal needs equal lengths.")
            x = T.diagonal(x, offset=0, axis1=i, axis2=j)
            term = term[:i] + term[i + 1:j] + term[j + 1:] + c
    keep = [i for i, c in enumerate(term) if x.shape[i] == sizes[c]]
    if len(keep) < len(term):
        x = T.reshape(x, shape=tuple([x.shape[i] for i in keep]))
    return x, "".join([term[i] for i in keep])


def product(chosen: list[tuple[Tensor, str]], needed: str, result: str | None) -> tuple[Tensor, str]:
    """One or two operands as one, with the axes that are needed later; in the order of `result` where it is the last."""
    terms = [term for _, term in chosen]
    summed = []
    for i, (x, term) in enumerate(chosen):
        others = needed + "".join(terms[:i] + terms[i + 1:])
        alone = tuple([k for k, c in enumerate(term) if c not in others])
        if alone:
            x, term = T.sum(x, axis=alone, keepdims=False), "".join([c for c in term if c in others])
        summed.append((x, term))
    out = remaining([term for _, term in summed], needed) if result is None else result
    if len(summed) == 1:
        x, term = summed[0]
        return (x if term == out else T.transpose(x, axes=tuple([term.index(c) for c in out]))), out
    subscripts = f"{','.join([term for _, term in summed])}->{out}"
    return T.einsum(*[x for x, _ in summed], subscripts=subscripts), out


def remaining(terms: list[str], needed: str) -> str:
    return "".join([c for c in dict.fromkeys("".join(terms)) if c in needed])


def path_of(optimize: Any, terms: list[str], result: str, sizes: dict[str, int]) -> list[tuple[int, ...]]:
    """Which operands to multiply, step by step, one or two at a time; a product goes to the end of the list."""
    if isinstance(optimize, list | tuple) and len(optimize) and optimize[0] == "einsum_path":
        return given_path(optimize[1:], len(terms))
    if isinstance(optimize, tuple) and len(optimize) == 2 and isinstance(optimize[0], str):        # ("greedy", memory limit)
        optimize = optimize[0]
    if optimize not in (True, False, "greedy", "optimal"):
        raise ArgumentError(f"einsum: expected optimize to be a bool, 'greedy', 'optimal' or a path, got {short(optimize)}. "
                            "Choose one.")
    if len(terms) <= 2:
        return [tuple(range(len(terms)))]
    if optimize is False:
        return [(0, 1), *[(0, n) for n in range(len(terms) - 2, 0, -1)]]
    return greedy_path(list(terms), result, sizes)


def given_path(steps: Sequence, n: int) -> list[tuple[int, ...]]:
    """A path of the caller, with steps of more than two operands taken apart."""
    path: list[tuple[int, ...]] = []
    for step in steps:
        if len(set(step)) != len(step) or not step or not all(0 <= i < n for i in step):
            raise ArgumentError(f"einsum: expected a step that names some of {n} operands, got {short(step)}. Use einsum_path.")
        first, *others = sorted(step, reverse=True)
        if not others:
            path.append((first,))
        for i in others:
            path.append((i, first))
            n -= 1
            first = n - 1
    if n > 1:
        path += given_path([tuple(range(n))], n)
    return path


def greedy_path(terms: list[str], result: str, sizes: dict[str, int]) -> list[tuple[int, ...]]:
    """Always the product whose result is smallest against its operands, then the one of fewest multiplications."""
    def size(term: Any) -> int:
        return math.prod([sizes[c] for c in term])

    path: list[tuple[int, ...]] = []
    while len(terms) > 1:
        best = None
        for i in range(len(terms)):
            for j in range(i + 1, len(terms)):
                needed = result + "".join(terms[:i] + terms[i + 1:j] + terms[j + 1:])
                out = remaining([terms[i], terms[j]], needed)
                cost = (size(out) - size(terms[i]) - size(terms[j]), size(set(terms[i] + terms[j])), i, j, out)
                best = cost if best is None or cost < best else best
        *_, i, j, out = best                                                             # type: ignore[misc]
        path.append((i, j))
        terms = [*terms[:i], *terms[i + 1:j], *terms[j + 1:], out]
    return path
