"""Softmax cross-entropy of logits with integer labels, row by row, over the last axis.

loss[r]  = log(sum_c exp z[r,c]) - (1 - e) z[r,label[r]] - e mean_c z[r,c],  z = x - max_c x,  e the label smoothing
p        = softmax(x), all that the pullback reads beside the labels
dx[r,c]  = g[r] (p[r,c] - t[r,c]),  t the smoothed one-hot target
mean     = sum_r loss[r] / R,  d = (p - t) / R: its gradient, made in the same launch

x, p, dx, d (..., C); loss, g, labels (...). The forward pass goes over the logits once for the maximum and over one new
array for the rest; the pullback writes one array. Labels outside 0 to C - 1 are an error on the host; on a device, where
looking would wait, their loss is NaN.
"""
from __future__ import annotations

from typing import Any

import numpy

from gpugrad.arrays import has_kernels
from gpugrad.errors import ArgumentError
from gpugrad.kernels.geometry import LONG, ROWS, WARP, pack_width, row_plan, taken, tickets
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.launch import launch
from gpugrad.kernels.load import Source

CROSS_ENTROPY = Source("cross_entropy.cu", INSTANCES["cross_entropy.cu"])
NO_LABEL = -2**63                 # what the kernels pass over: no label is that


def cross_entropy(xp):
    """(loss, p). On the host p is made in `out`, where that is given."""
    on_gpu = has_kernels(xp)

    def run(x, labels, smoothing=0.0, out=None):
        check_labels(xp, labels, x.shape[-1])
        if on_gpu and taken(x) and 0 < x.shape[-1] < 1 << 31:
            return launched(xp, x, labels, smoothing)
        loss, p, total = row_losses(xp, x, labels, label_places(xp, labels, x.shape[-1]), smoothing, out)
        p /= total
        return loss, p
    return run


def row_losses(xp: Any, x: Any, labels: Any, places: Any, smoothing: float, out: Any = None) -> tuple[Any, Any, Any]:
    """(loss of each row, e = exp(x - max), the sum of e over each row)."""
    e = xp.subtract(x, x.max(axis=-1, keepdims=True), out=out)
    target = e.reshape(-1).take(places).reshape(labels.shape)
    if xp is not numpy:
        target = poisoned(xp, target, labels, x.shape[-1])
    if smoothing:
        target = target * (1 - smoothing) + e.mean(axis=-1) * smoothing
    xp.exp(e, out=e)
    total = e.sum(axis=-1, keepdims=True, dtype="f" if e.dtype.char == "e" else None)            # 70000 classes are no float16
    loss = xp.log(total).reshape(labels.shape)
    loss -= target
    return loss.astype(e.dtype, copy=False), e, total


def cross_entropy_pull(xp):
    """g (p - t). On the host it is made in `out`, where that is given, an array in rows."""
    on_gpu = has_kernels(xp)

    def run(g, p, labels, smoothing=0.0, out=None):
        classes = p.shape[-1]
        g = xp.asarray(g, dtype=p.dtype)
        if on_gpu and taken(p) and classes < 1 << 31 and g.shape == labels.shape:
            return launched_pull(xp, g, p, labels, smoothing)
        column = g.reshape(*labels.shape, 1)
        dx = xp.empty(p.shape, p.dtype) if out is None else out        # in rows, even where p is not: places are places in it
        xp.multiply(p, column, out=dx)
        if smoothing:
            dx -= column * (smoothing / classes)
            g = g * (1 - smoothing)
        dx.reshape(-1)[label_places(xp, labels, classes)] -= g.reshape(-1)       # one place a row: no two are the same
        return dx
    return run


def cross_entropy_push(xp):
    """sum_c (p - t) s, the transpose of the pullback: what a change s of the logits does to the loss."""
    def run(s, p, labels, smoothing=0.0):
        change = (p * s).sum(axis=-1)
        change -= s.reshape(-1).take(label_places(xp, labels, p.shape[-1])).reshape(labels.shape) * (1 - smoothing)
        if smoothing:
            change -= s.mean(axis=-1) * smoothing
        return change
    return run


def mean_cross_entropy(xp):
    """(mean of the rows' losses, its gradient d)."""
    on_gpu = has_kernels(xp)

    def run(x, labels, smoothing=0.0):
        check_labels(xp, labels, x.shape[-1])
        if on_gpu and taken(x) and labels.size and 0 < x.shape[-1] < 1 << 31:
            return launched_mean(xp, x, labels, smoothing)
        places, rows, classes = label_places(xp, labels, x.shape[-1]), max(1, labels.size), x.shape[-1]
        loss, d, total = row_losses(xp, xp.ascontiguousarray(x), labels, places, smoothing)        # d in rows, as places count
        total *= rows
        d /= total
        if smoothing:
            d -= smoothing / (classes * rows)
        d.reshape(-1)[places] -= (1 - smoothing) / rows
        mean = loss.mean() if loss.dtype.char == "e" else loss.sum() / rows
        return mean, d if xp is numpy else poisoned(xp, d, labels[..., None], classes)
    return run


def class_target(xp):
    """The smoothed one-hot target of labels, shaped like p."""
    def run(p, labels, smoothing=0.0):
        t = xp.full(p.shape, smoothing / p.shape[-1], p.dtype)
        t.reshape(-1)[label_places(xp, labels, p.shape[-1])] += 1 - smoothing
        return t if xp is numpy else poisoned(xp, t, labels[..., None], p.shape[-1])
    return run


def launched(xp: Any, x: Any, labels: Any, smoothing: float) -> tuple[Any, Any]:
    """(loss, p) by one launch."""
    p = xp.empty(x.shape, x.dtype)
    return launch_rows(xp, x, labels, smoothing, p=p).astype(x.dtype, copy=False), p


def launched_mean(xp: Any, x: Any, labels: Any, smoothing: float) -> tuple[Any, Any]:
    """(mean, d) by one launch."""
    mean, d = xp.empty((), x.dtype), xp.empty(x.shape, x.dtype)
    launch_rows(xp, x, labels, smoothing, d=d, mean=mean)
    return mean, d


def launch_rows(xp: Any, x: Any, labels: Any, smoothing: float, *, p: Any = None, d: Any = None, mean: Any = None) -> Any:
    """One launch that fills what is given of p, d and mean; returns each row's loss."""
    x, labels, columns = xp.ascontiguousarray(x), xp.ascontiguousarray(labels.astype("int64", copy=False)), x.shape[-1]
    loss = xp.empty(x.shape[:-1], "float64" if x.dtype == "float64" else "float32")
    width = pack_width(x, p, d, length=columns)
    plan = row_plan(columns, width, x.dtype)
    ticket = None if mean is None else tickets(xp, 1)
    tail = (1.0 if mean is None else 1 / loss.size, float(smoothing), NO_LABEL)
    writes = [a for a in (loss, p, d, mean) if a is not None]
    if plan is None:
        launch(CROSS_ENTROPY, "cross_entropy_long", (x.dtype, width, labels.dtype), max(1, loss.size), LONG,
               (x, labels, None, None, loss, p, d, mean, ticket, loss.size, columns, *tail), writes=writes, flops=5 * x.size)
    else:
        packs, block, each = plan
        launch(CROSS_ENTROPY, "cross_entropy_row", (x.dtype, width, packs, labels.dtype), max(1, -(-loss.size // each)), block,
               (x, None, labels, None, None, loss, p, d, mean, None, ticket, loss.size, columns, *tail), writes=writes,
               flops=5 * x.size)
    return loss


def launched_pull(xp: Any, g: Any, p: Any, labels: Any, smoothing: float) -> Any:
    """g (p - t) by one launch; of a g that is one number everywhere, as behind a mean, that number is read."""
    each = any(step for step, n in zip(g.strides, g.shape, strict=True) if n > 1)
    g = xp.ascontiguousarray(g if each or not g.size else g[(slice(1),) * g.ndim])
    p, labels = xp.ascontiguousarray(p), xp.ascontiguousarray(labels.astype("int64", copy=False))
    dx, columns = xp.empty(p.shape, p.dtype), p.shape[-1]
    width = pack_width(p, dx, length=columns)
    grid = max(1, -(-labels.size // ROWS) * -(-columns // (WARP * width)))
    launch(CROSS_ENTROPY, "cross_entropy_pull", (p.dtype, width, labels.dtype), grid, (WARP, ROWS),
           (g, p, labels, None, dx, labels.size, columns, bool(each), 1.0, float(smoothing), NO_LABEL), flops=3 * p.size)
    return dx


def check_labels(xp: Any, labels: Any, classes: int) -> None:
    """Raise ArgumentError for labels that are no class. Read as unsigned, negative ones are the largest: one look finds both."""
    if labels.dtype.kind not in "iu":
        raise ArgumentError(f"cross_entropy: expected integer labels, got {labels.dtype}. Use labels.astype(int).")
    if xp is numpy and labels.size and labels.view(f"u{labels.dtype.itemsize}").max() >= classes:
        raise ArgumentError(f"cross_entropy: expected labels from 0 to {classes - 1}, got {labels.min()} to {labels.max()}. "
                            "Check the labels, or pass ignore_index.")


def label_places(xp: Any, labels: Any, classes: int) -> Any:
    """Where each row's label stands in the flat array."""
    if xp is not numpy:
        labels = xp.clip(labels, 0, classes - 1)
    places = xp.arange(0, labels.size * classes, classes)
    places += labels.reshape(-1).astype(places.dtype, copy=False)
    return places


def poisoned(xp: Any, target: Any, labels: Any, classes: int) -> Any:
    return xp.where((labels < 0) | (labels >= classes), target.dtype.type("nan"), target)
