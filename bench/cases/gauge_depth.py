"""Depth: a graph up to 1,000,000 nodes deep goes forward, backward, and away, without recursion and in linear time."""

import time

import numpy as np

from gpugrad.bench.case import Gauge
from gpugrad.bench.clock import collector_off

ONE = np.float32(1.0)


def seconds(forward, backward) -> tuple[float, float]:
    """Seconds for both passes, and for the graph's destruction."""
    with collector_off():
        start = time.perf_counter()
        y = forward()
        backward(y)
        middle = time.perf_counter()
        del y
        return middle - start, time.perf_counter() - middle


def depth(nodes: int, words: str) -> Gauge:
    gauge = Gauge(
        name=f"depth_{words}",
        title=f"chain {words} nodes deep on 4 float32: forward, backward and destruction, per node",
        unit="us",
        params={"nodes": nodes},
        small={"nodes": 2000},
        method="one pass, garbage collector off",
    )

    @gauge.reading("gpugrad")
    def gpugrad_depth(peer, p):
        x = peer.leaf(np.ones(4, np.float32))

        def forward():
            y = x
            for _ in range(p.nodes):
                y = y * ONE
            return y.sum()

        passes, end = seconds(forward, lambda y: y.backward(retain_graph=True))
        return 1e6 * (passes + end) / p.nodes

    @gauge.reading("torch")
    def torch_depth(peer, p):
        x = peer.leaf(np.ones(4, np.float32))

        def forward():
            y = x
            for _ in range(p.nodes):
                y = y * 1.0
            return y.sum()

        passes, end = seconds(forward, lambda y: y.backward(retain_graph=True))
        return 1e6 * (passes + end) / p.nodes

    @gauge.reading("autograd")
    def autograd_depth(peer, p):
        def f(x):
            for _ in range(p.nodes):
                x = x * ONE
            return peer.module.numpy.sum(x)

        gradient = peer.module.grad(f)
        passes, _ = seconds(lambda: gradient(np.ones(4, np.float32)), lambda g: None)  # the graph is gone on return
        return 1e6 * passes / p.nodes

    return gauge


GAUGES = [depth(10_000, "10k"), depth(100_000, "100k"), depth(1_000_000, "1M")]
