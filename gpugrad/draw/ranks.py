"""Ranks: which step from left to right a node stands at, so that every edge points right and all are short in sum.

Source: the network simplex of Gansner, Koutsofios, North & Vo, IEEE Trans. Softw. Eng. 19 (1993) 214, section 2. Its
cut values come from one sum here: the edges that leave a subtree less those that enter it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gpugrad.draw.order import topological_order

LARGEST = 1_500  # nodes; a pivot costs one pass over the graph, so larger graphs keep their longest paths
PIVOTS = 2_000

Pair = tuple[int, int]


class Tree(NamedTuple):
    """A spanning forest walked from its roots: nodes in preorder, the edge to each one's parent, and subtree ends."""

    order: list[int]
    parent_edge: list[int]  # -1 for a root
    place: list[int]  # of each node in `order`
    end: list[int]  # the subtree of v is order[place[v]:end[v]]


def longest_paths(count: int, pairs: Sequence[Pair]) -> list[int]:
    """For each of the nodes 0 … count - 1, the number of edges on the longest path to it.

    Raises GraphError if the pairs (source, target) form a cycle.
    """
    depth = [0] * count
    targets: list[list[int]] = [[] for _ in range(count)]
    for source, target in pairs:
        targets[source].append(target)
    for v in topological_order(count, pairs):
        for w in targets[v]:
            depth[w] = max(depth[w], depth[v] + 1)
    return depth


def ranks(depth: Sequence[int], pairs: Sequence[Pair]) -> list[int]:
    """A rank for each node, from 0, with rank[source] < rank[target] for every pair; `depth` from `longest_paths`.

    The sum of rank[target] - rank[source] is the least possible up to 1,500 nodes; beyond, only inputs move up to
    their uses.
    """
    rank = list(depth)
    near: list[list[int]] = [[] for _ in rank]
    surplus = [0] * len(rank)  # edges out less edges in: what a step to the right saves
    for i, (source, target) in enumerate(pairs):
        near[source].append(i)
        near[target].append(i)
        surplus[source] += 1
        surplus[target] -= 1
    for v, edges in enumerate(near):
        if edges and surplus[v] == len(edges):
            rank[v] = min(rank[pairs[e][1]] for e in edges) - 1
    if len(rank) <= LARGEST:
        chosen = _tight_forest(rank, pairs, near)
        for _ in range(PIVOTS):
            if not _pivot(rank, pairs, surplus, chosen):
                break
    least = min(rank)
    return [r - least for r in rank]


def _slack(rank: list[int], pair: Pair) -> int:
    return rank[pair[1]] - rank[pair[0]] - 1


def _tight_forest(rank: list[int], pairs: Sequence[Pair], near: list[list[int]]) -> set[int]:
    """Edges of slack 0 that span every component; where there are none, a part of the tree is shifted to make one."""
    chosen: set[int] = set()
    done = [False] * len(rank)
    for root in range(len(rank)):
        if done[root]:
            continue
        done[root] = True
        members, fresh = [root], [root]
        while True:
            while fresh:
                v = fresh.pop()
                for e in near[v]:
                    w = pairs[e][0] + pairs[e][1] - v
                    if not done[w] and not _slack(rank, pairs[e]):
                        done[w] = True
                        chosen.add(e)
                        members.append(w)
                        fresh.append(w)
            border = [(_slack(rank, pairs[e]), e) for v in members for e in near[v]
                      if not (done[pairs[e][0]] and done[pairs[e][1]])]
            if not border:
                break
            slack, e = min(border)
            shift = slack if done[pairs[e][0]] else -slack
            for v in members:
                rank[v] += shift
            fresh = [pairs[e][0] if done[pairs[e][0]] else pairs[e][1]]
    return chosen


def _pivot(rank: list[int], pairs: Sequence[Pair], surplus: list[int], chosen: set[int]) -> bool:
    """Shift the subtree that gains most until another edge is tight, and swap the two edges. False: none gains."""
    tree = _walk(len(rank), pairs, chosen)
    total = surplus.copy()  # of the subtree below each node
    for v in reversed(tree.order):
        if (e := tree.parent_edge[v]) >= 0:
            total[pairs[e][0] + pairs[e][1] - v] += total[v]
    best, gain = -1, 0
    for v, e in enumerate(tree.parent_edge):
        saved = -total[v] if e >= 0 and pairs[e][0] == v else total[v]
        if e >= 0 and saved > gain:
            best, gain = v, saved
    if best < 0:
        return False
    inside = [tree.place[best] <= p < tree.end[best] for p in tree.place]
    rightward = total[best] > 0
    slack, entering = min((_slack(rank, pair), e) for e, pair in enumerate(pairs)
                          if inside[pair[0]] != inside[pair[1]] and inside[pair[0]] == rightward)
    for v in tree.order[tree.place[best] : tree.end[best]]:
        rank[v] += slack if rightward else -slack
    chosen.remove(tree.parent_edge[best])
    chosen.add(entering)
    return True


def _walk(count: int, pairs: Sequence[Pair], chosen: set[int]) -> Tree:
    near: list[list[int]] = [[] for _ in range(count)]
    for e in sorted(chosen):
        near[pairs[e][0]].append(e)
        near[pairs[e][1]].append(e)
    order: list[int] = []
    parent_edge, place, end = [-1] * count, [-1] * count, [0] * count
    for root in range(count):
        stack = [(root, -1)] if place[root] < 0 else []
        while stack:
            v, e = stack.pop()
            if e == -2:
                end[v] = len(order)
                continue
            parent_edge[v], place[v] = e, len(order)
            order.append(v)
            stack.append((v, -2))
            stack.extend((pairs[f][0] + pairs[f][1] - v, f) for f in near[v] if f != e)
    return Tree(order, parent_edge, place, end)
