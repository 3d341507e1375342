"""Softmax cross-entropy of logits with integer labels, row by row, over the last axis.

loss[r]  = log(sum_c exp z[r,c]) - (1 - e) z[r,label[r]] - e mean_c z[r,c],  z = x - max_c x,  e the label smoothing
p        = softmax(x), all that the pullback reads beside the labels
dx[r,c]  = g[r] (p[r,c] - t[r,c]),  t the smoothed one-hot target

x, p, dx (..., C); loss, g, labels (...). The forward pass goes over the logits once for the maximum and over one new
array for the rest; the pullback writes one array. Labels outside 0 to C - 1 are an error on the host; on a device, where
looking would wait, their loss is NaN.
"""
from __future__ import annotations

from typing import Any

import numpy

from gpugrad.errors import ArgumentError


def cross_entropy(xp):
    """(loss, p)."""
    def run(x, labels, smoothing=0.0):
        check_labels(xp, labels, x.shape[-1])
        places = label_places(xp, labels, x.shape[-1])
        p = x - x.max(axis=-1, keepdims=True)
        target = p.reshape(-1).take(places).reshape(labels.shape)
        if xp is not numpy:
            target = poisoned(xp, target, labels, x.shape[-1])
        if smoothing:
            target = target * (1 - smoothing) + p.mean(axis=-1) * smoothing
        xp.exp(p, out=p)
        total = p.sum(axis=-1, keepdims=True)
        p /= total
        loss = xp.log(total).reshape(labels.shape)
        loss -= target
        return loss, p
    return run


def cross_entropy_pull(xp):
    """g (p - t)."""
    def run(g, p, labels, smoothing=0.0):
        classes = p.shape[-1]
        g = xp.asarray(g, dtype=p.dtype)
        column = g.reshape(*labels.shape, 1)
        dx = p * column
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
