"""From a kernel with its calls inlined to basic blocks in an order that reconverges.

The machine always runs the lowest-numbered block that has threads waiting. So blocks are numbered in a topological order
in which a loop is contiguous: every block between a branch and its immediate post-dominator comes before it, and a loop's
exits come after the loop. Threads that part therefore meet again at the immediate post-dominator, or earlier.
"""

from dataclasses import dataclass, field

from .syntax import Instruction, Label

BARRIERS = ("bar", "barrier")
ENDINGS = {"bra": "jump", "brx": "table", "ret": "exit", "exit": "exit", "<call>": "call", "<return>": "return"}


@dataclass
class Block:
    """Straight-line instructions and how they end.

    kind     jump, branch (targets: taken, not taken), table (targets by index), exit, barrier (target: what follows), call
             (targets: where the arguments are passed, where it comes back), return (targets: wherever it was called)
    last     the Instruction that ends it, None for a plain fall-through
    owner    the function with a frame that it belongs to, "" for the kernel
    waits    "spins" or "polls" where the block lies on a loop that waits for others (see waiting.py)
    """

    instructions: list
    kind: str = "jump"
    last: Instruction | None = None
    targets: list = field(default_factory=list)
    waits: str | None = None
    owner: str = ""


def blocks_of(flat):
    """The basic blocks of a flat kernel; block 0 is the entry."""
    blocks: list[Block] = []
    starts: dict[str, int] = {}
    current: Block | None = None
    owner = ""
    for item in flat.body:
        if isinstance(item, Label):
            owner = flat.owners.get(item.name, owner)
            if current is None or current.instructions:
                current = open_block(blocks, owner)
            starts[item.name] = len(blocks) - 1
            continue
        if current is None:
            current = open_block(blocks, owner)
        if ends_block(item):
            current.kind, current.last = kind_of(item), item
            current = None
        else:
            current.instructions.append(item)
    blocks.append(Block([], "exit"))
    calls = [item.operands for item in flat.body if not isinstance(item, Label) and item.opcode == "<call>"]
    for number, block in enumerate(blocks[:-1]):
        following, last = number + 1, block.last
        if last is None:
            block.targets = [following]
            continue
        match block.kind:
            case "jump":
                block.targets = [starts[last.operands[0].name]]
            case "branch":
                block.targets = [starts[last.operands[0].name], following]
            case "table":
                block.targets = [starts[label] for label in flat.targets[last.operands[-1].name]]
            case "barrier":
                block.targets = [following]
            case "call":
                block.targets = [starts[label.name] for label in last.operands[:2]]
            case "return":
                block.targets = [starts[back.name] for _, back, name, _ in calls if name.name == block.owner]
            case "exit" if last.guard is not None:
                block.kind, block.targets = "branch", [len(blocks) - 1, following]
    return in_order(blocks)


def open_block(blocks, owner):
    blocks.append(Block([], owner=owner))
    return blocks[-1]


def ends_block(item):
    root = item.parts[0]
    return root in ENDINGS or (root in BARRIERS and "warp" not in item.parts and item.parts[1:3] != ("cluster", "arrive"))


def kind_of(item):
    root = item.parts[0]
    if root == "bra":
        return "branch" if item.guard is not None else "jump"
    return ENDINGS.get(root, "barrier")


def in_order(blocks):
    """Renumber blocks: topological, loops contiguous, unreachable ones left out; the entry stays first."""
    reachable, stack = {0}, [0]
    while stack:
        for target in blocks[stack.pop()].targets:
            if target not in reachable:
                reachable.add(target)
                stack.append(target)
    order: list[int] = []
    loops: list[tuple[int, set[int]]] = []
    arrange(blocks, reachable, [0], order, loops)
    number = {old: new for new, old in enumerate(order)}
    out = [blocks[old] for old in order]
    for block in out:
        block.targets = [number[target] for target in block.targets]
    return out, [(number[header], {number[n] for n in nodes}) for header, nodes in loops]


def arrange(blocks, nodes, entries, order, loops):
    """Append nodes in topological order of their strongly connected components, headers of loops first."""
    for component in components(blocks, nodes, entries):
        if len(component) == 1 and component[0] not in blocks[component[0]].targets:
            order += component
            continue
        inside = set(component)
        outside_in = {t for n in nodes - inside for t in blocks[n].targets if t in inside}
        header = next((n for n in component if n in entries or n in outside_in), component[0])
        loops.append((header, inside))
        order.append(header)
        rest = inside - {header}
        if rest:
            arrange(blocks, rest, [t for t in blocks[header].targets if t in rest], order, loops)


def components(blocks, nodes, entries):
    """Strongly connected components of a subgraph in topological order (Tarjan, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    on_stack: set[int] = set()
    stack: list[int] = []
    found: list[list[int]] = []
    for root in [*entries, *sorted(nodes)]:
        if root in index:
            continue
        work = [(root, iter(blocks[root].targets))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in nodes:
                    continue
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(blocks[target].targets)))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component: list[int] = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                        on_stack.discard(component[-1])
                    found.append(component[::-1])
    return found[::-1]


