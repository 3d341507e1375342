"""Peak memory of the workloads where memory is the question."""

from gpugrad.bench.case import Case, Gauge
from gpugrad.bench.cases import w03_mlp, w05_elementwise, w10_layernorm_gelu
from gpugrad.bench.memory import peak_rss


def weigh(case: Case) -> Gauge:
    """A gauge of one case's peak memory, for every peer that the case has."""
    number, _, words = case.name.partition("_")
    gauge = Gauge(
        name=f"peak_{words}",
        title=f"peak memory of {number.upper().replace('W0', 'W')}, inputs included: {case.title}",
        unit="MB",
        method="growth of a fresh process over two steps, high-water mark of resident memory",
    )
    gauge.reading(*case.variants)(lambda peer, p: peak_rss(case.name, peer.name) / 1e6)
    return gauge


GAUGES = [weigh(module.CASE) for module in (w03_mlp, w05_elementwise, w10_layernorm_gelu)]
