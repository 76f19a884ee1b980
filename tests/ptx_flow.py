"""The instructions of PTX and the loops that they form."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple


class Instruction(NamedTuple):
    """One instruction."""

    opcode: str
    written: tuple[str, ...]
    """The registers that it sets."""
    read: tuple[str, ...]
    """Those that it reads, its predicate among them."""
    text: str

    def __str__(self) -> str:
        """As it was written."""
        return self.text


@dataclass
class Block:
    """Instructions that run one after the other, and the numbers of the blocks that may follow."""

    instructions: list[Instruction] = field(default_factory=list)
    after: set[int] = field(default_factory=set)


_SETS_NOTHING = (
    "st",
    "bra",
    "brx",
    "ret",
    "exit",
    "trap",
    "bar",
    "barrier",
    "membar",
    "fence",
    "red",
    "call",
)
_ENDS = ("bra", "brx", "ret", "exit", "trap")


def instruction(text: str) -> Instruction:
    """What a statement without its semicolon says."""
    found = re.match(r"(?:@!?(%\w+)\s+)?([a-z][\w.:]*)\s*(.*)", text, re.DOTALL)
    assert found, text
    predicate, opcode, operands = found.groups()
    first, _, rest = operands.partition(",")
    if opcode.split(".")[0] in _SETS_NOTHING:
        first, rest = "", operands
    elif operands.startswith("("):  # a vector is set
        first, _, rest = operands.partition(")")
    read = re.findall(r"%\w+(?:\.\w+)?", rest) + ([predicate] if predicate else [])
    return Instruction(opcode, tuple(re.findall(r"%\w+", first)), tuple(read), " ".join(text.split()))


def blocks_of(ptx: str) -> list[list[Block]]:
    """The blocks of each function with a body, in the order of the text; the first is where it starts."""
    text = re.sub(r"//[^\n]*", "", ptx)
    found = []
    for head in re.finditer(r"^\s*(?:\.\w+\s+)*\.(?:entry|func)\b[^;{]*?\{", text, re.MULTILINE):
        body = text[head.end() : re.compile(r"^\}", re.MULTILINE).search(text, head.end()).start()]
        found.append(_blocks(body))
    return found


def _blocks(body: str) -> list[Block]:
    """The blocks of a function."""
    blocks, label = [Block()], ""
    places: dict[str, int] = {}
    tables: dict[str, list[str]] = {}
    jumps: list[tuple[int, str]] = []
    for text in re.findall(r"\s*(\$\w+:|[^;{}]+|[{}])", _joined(body)):
        if text.endswith(":"):
            label = text[:-1]
            places[label] = len(blocks)
            blocks[-1].after.add(len(blocks))
            blocks.append(Block())
        elif text.startswith(".branchtargets"):
            tables[label] = re.findall(r"\$\w+", text)
        elif text.strip() and text[0] not in ".{}":
            one = instruction(text.strip())
            blocks[-1].instructions.append(one)
            if one.opcode.split(".")[0] in _ENDS:
                jumps += [(len(blocks) - 1, name) for name in re.findall(r"\$\w+", text)]
                if text.startswith("@"):
                    blocks[-1].after.add(len(blocks))
                blocks.append(Block())
    for number, name in jumps:
        blocks[number].after |= {places[target] for target in tables.get(name, [name])}
    return blocks


def _joined(body: str) -> str:
    """Braces of operands made parentheses, so that those left are of scopes."""
    return re.sub(r"\{([^{};]*)\}", r"(\1)", body)


def depths(blocks: list[Block]) -> list[int]:
    """In how many loops each block lies."""
    every = loops(blocks)
    return [sum(number in loop for loop in every) for number in range(len(blocks))]


def innermost(blocks: list[Block]) -> list[frozenset[int]]:
    """The loops in which there are no others."""
    every = loops(blocks)
    return [loop for loop in every if not any(other < loop for other in every)]


def inner_loops(ptx: str) -> list[list[Instruction]]:
    """The instructions of every loop without another one in it, of all functions."""
    return [inside(blocks, loop) for blocks in blocks_of(ptx) for loop in innermost(blocks)]


def inside(blocks: list[Block], loop: frozenset[int]) -> list[Instruction]:
    """The instructions of a loop, those of loops in it too."""
    return [one for number in sorted(loop) for one in blocks[number].instructions]


def loops(blocks: list[Block]) -> list[frozenset[int]]:
    """The blocks of each loop: those from which its start is reached again without leaving by it."""
    dominators = _dominators(blocks)
    before: list[set[int]] = [set() for _ in blocks]
    for number, block in enumerate(blocks):
        for after in block.after:
            before[after].add(number)
    found: dict[int, set[int]] = {}
    for number, block in enumerate(blocks):
        for head in block.after & dominators[number]:
            inside = found.setdefault(head, {head})
            left = [number]
            while left:
                here = left.pop()
                if here not in inside:
                    inside.add(here)
                    left += before[here]
    return [frozenset(inside) for inside in found.values()]


def _dominators(blocks: list[Block]) -> list[set[int]]:
    """For each block that can be reached those through which every way to it leads; nothing for others."""
    order, seen, left = [], {0}, [0]
    while left:
        here = left.pop()
        order.append(here)
        left += [after for after in blocks[here].after if after not in seen]
        seen |= blocks[here].after
    found = {number: set(seen) for number in seen} | {0: {0}}
    before = {number: [other for other in seen if number in blocks[other].after] for number in seen}
    changed = True
    while changed:
        changed = False
        for number in order[1:]:
            new = {number} | set.intersection(*(found[other] for other in before[number]))
            changed, found[number] = changed or new != found[number], new
    return [found.get(number, set()) for number in range(len(blocks))]
