"""Whole training steps and attention on a GPU for `make gpu`: eager, compiled into one CUDA graph, and beside torch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import gpugrad as gg
from gpugrad.bench.gpu_device import Device, Timed
from gpugrad.bench.score_compiled import forgetting, replay
from gpugrad.bench.score_models import Block, Mlp
from gpugrad.profiling import profile

TOLERANCE = 1e-3  # of a compiled step's output after three steps against the eager one's, relative to the largest
REHEARSAL_STEPS = (Mlp(32, (64, 32, 32, 10)), Mlp(32, (64, 32, 32, 10), epilogues=True), Block(1, 16, 32, 2))
STEPS = (Mlp(), Mlp(epilogues=True), Block())
ATTENTION, REHEARSAL_ATTENTION = (8, 12, 1024, 64), (1, 2, 32, 32)  # batch, heads, time, features of a head


def time_steps(device: Device, bandwidth: float, seconds: float) -> tuple[list[Timed], list[str]]:
    """(each training step, eager and compiled; what is wrong with a compiled one: no graph, another result, a host's wait)."""
    timed, wrong = [], []
    for work in STEPS if device.real else REHEARSAL_STEPS:
        found = replay(work, device.name)
        eager = forgetting(work.build(gg, device.name))
        compiled = gg.compile(forgetting(work.build(gg, device.name)), reuse_outputs=True)
        for how, step in (("eager", eager), ("compiled", compiled)):
            step()
            with profile() as seen:
                step()
            us, floor = device.microseconds(step, seconds), work.least_bytes / bandwidth * 1e6
            timed.append(Timed(f"{work.name}, {how}", {"size": work.size, "launches": len(seen.launches)}, us, seen.bytes,
                               work.flops, floor, {}))
        problems = {f"was not captured: {found.refused}": found.refused, f"is {found.error:.1e} off": not found.error < TOLERANCE,
                    f"waits for the device {found.profile.syncs} times": found.profile.syncs}
        wrong += [f"{work.name}, compiled, {problem}" for problem, there in problems.items() if there]
    return timed, wrong


def time_attention(device: Device, bandwidth: float, seconds: float, torch: Any) -> list[Timed]:
    """Causal attention in float32, forward and backward, beside torch's scaled_dot_product_attention."""
    shape = ATTENTION if device.real else REHEARSAL_ATTENTION
    rng = np.random.default_rng(3)
    q, k, v, g = (rng.standard_normal(shape, dtype=np.float32) for _ in range(4))
    ours = attention_step(device.name, q, k, v, g)
    versus = {}
    if torch is not None:
        versus["torch"] = device.microseconds(torch_attention(torch, q, k, v, g), seconds)
    moved = 12 * q.nbytes  # q k v in, y out; g q k v y in and three gradients out
    flops = 7 * shape[0] * shape[1] * shape[2] ** 2 * shape[3]  # two products and five, of which causality leaves a half
    return [Timed("attention, forward and backward", {"shape": shape}, device.microseconds(ours, seconds), moved, flops,
                  moved / bandwidth * 1e6, versus)]


def attention_step(name: str, *arrays: np.ndarray) -> Callable[[], Any]:
    xs, g = [gg.tensor(x, device=name, requires_grad=True) for x in arrays[:3]], gg.tensor(arrays[3], device=name)

    def step() -> None:
        for x in xs:
            x.grad = None
        gg.nn.scaled_dot_product_attention(*xs, is_causal=True).backward(g)

    return step


def torch_attention(torch: Any, *arrays: np.ndarray) -> Callable[[], Any]:
    q, k, v, g = (torch.from_numpy(x).cuda() for x in arrays)
    xs = [x.requires_grad_() for x in (q, k, v)]
    return partial(torch_step, torch, xs, g)


def torch_step(torch: Any, xs: list, g: Any) -> None:
    for x in xs:
        x.grad = None
    torch.nn.functional.scaled_dot_product_attention(*xs, is_causal=True).backward(g)
