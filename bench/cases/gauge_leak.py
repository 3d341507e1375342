"""Leaks: growth over 1,000 training steps with the garbage collector off. A cycle in the graph shows here at once."""

from gpugrad.bench.case import Gauge
from gpugrad.bench.cases.w04_mlp_small import CASE as MLP
from gpugrad.bench.clock import collector_off
from gpugrad.bench.memory import status, traced, tracing

GAUGE = Gauge(
    name="leak",
    title="memory grown over 1,000 steps of the small MLP with the garbage collector off",
    unit="kB",
    # CPython keeps up to 2,000 freed tuples of a size, and they count as live until that list is full: settle first.
    params={"steps": 1000, "settle": 2500},
    small={"steps": 20, "settle": 5},
    method="gpugrad, autograd, mygrad: live NumPy and Python bytes; torch, jax: resident memory of the process",
)


@GAUGE.reading("gpugrad", "autograd", "mygrad")
def traced_growth(peer, p):
    step, _ = MLP.build(peer, MLP.data())
    with collector_off(), tracing():
        for _ in range(p.settle):
            step()
        before = traced()
        for _ in range(p.steps):
            step()
        return (traced() - before) / 1e3


@GAUGE.reading("torch", "jax")
def resident_growth(peer, p):
    step, _ = MLP.build(peer, MLP.data())
    with collector_off():
        for _ in range(p.settle):
            step()
        before = status("VmRSS")
        for _ in range(p.steps):
            step()
        return (status("VmRSS") - before) / 1e3
