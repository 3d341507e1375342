"""The way of a reverse sweep through the graph, found without recursion."""
from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from gpugrad.graph.node import Leaf, Node

by_age = attrgetter("seq")


class Plan:
    """The way of a sweep: the nodes between `wrt` and the outputs, in `order`, youngest first.

    live     the nodes that depend on `wrt`; None where all do
    outside  True where the graph reaches inputs other than `wrt`
    """

    __slots__ = ("order", "live", "outside")

    def __init__(self, outputs: Sequence[Node], wrt: Sequence[Node] | None):
        if wrt is None:
            self.order, self.live, self.outside = ancestors(outputs), None, True
            return
        targets = frozenset(wrt)
        oldest = min(map(by_age, targets), default=0)
        self.outside = any(n.seq < oldest for n in outputs)
        stranger = False                                  # a root that is not in wrt: some nodes may not depend on wrt
        seen = {n for n in outputs if n.seq >= oldest}
        order = list(seen)
        for node in order:                                # grows while it is walked
            if node in targets:
                if any(p is not None for p in node.parents):
                    self.outside = True
                continue
            root = True
            for parent in node.parents:
                if parent is None:
                    continue
                root = False
                if parent.seq < oldest:
                    self.outside = stranger = True
                elif parent not in seen:
                    seen.add(parent)
                    order.append(parent)
            if root:
                stranger = True
                if type(node) is Leaf:
                    self.outside = True
        order.sort(key=by_age, reverse=True)
        self.order = order
        self.live = None
        if stranger:
            live = set(targets)
            for node in reversed(order):
                for parent in node.parents:
                    if parent in live:
                        live.add(node)
                        break
            self.order = [n for n in order if n in live]
            self.live = live

    def rest(self, order: list[Node]) -> Plan:
        """What is left of the way."""
        plan = object.__new__(Plan)
        plan.order, plan.live, plan.outside = order, self.live, self.outside
        return plan


def ancestors(outputs: Sequence[Node]) -> list[Node]:
    """The nodes that the outputs were made from, and their own, youngest first."""
    seen = set(outputs)
    order = list(seen)
    add, append = seen.add, order.append
    for node in order:                                    # grows while it is walked
        for parent in node.parents:
            if parent is not None and parent not in seen:
                add(parent)
                append(parent)
    order.sort(key=by_age, reverse=True)
    return order
