"""The loops of a kernel, found in its text: jumps back to where all ways to them come from."""

import re


def inner_loops(ptx: str) -> list[str]:
    """The text of every loop without another one in it."""
    blocks = _blocks(ptx)
    loops = _loops(blocks)
    inner = [loop for head, loop in loops.items() if not (loops.keys() & loop) - {head}]
    return ["".join(blocks[n] for n in sorted(loop)) for loop in inner]


def _blocks(ptx: str) -> list[str]:
    """What runs from the first to the last line or not at all."""
    lines = ptx[ptx.index("\n{\n") :].splitlines(keepends=True)
    blocks = [""]
    for line in lines:
        if line.startswith("$"):
            blocks.append("")
        blocks[-1] += line
        if re.search(r"\bbra\b", line):
            blocks.append("")
    return blocks


def _next(blocks: list[str]) -> list[set[int]]:
    """Where each block may go on."""
    at = {found[1]: n for n, block in enumerate(blocks) if (found := re.match(r"(\$\w+):", block))}
    following = []
    for n, block in enumerate(blocks):
        jump = re.search(r"^\t(@!?%\w+ )?bra(?:\.uni)?\s+(\$\w+);", block, re.MULTILINE)
        ends = re.search(r"^\t(ret|exit|trap);", block, re.MULTILINE) or (jump and not jump[1])
        following.append({at[jump[2]]} if jump else set())
        if not ends and n + 1 < len(blocks):
            following[-1].add(n + 1)
    return following


def _loops(blocks: list[str]) -> dict[int, set[int]]:
    """The blocks of each loop, by the one that it begins with."""
    following, count = _next(blocks), len(blocks)
    before = [{m for m in range(count) if n in following[m]} for n in range(count)]
    certain = [{0}] + [set(range(count)) for _ in range(1, count)]  # what every way to a block passes
    changed = True
    while changed:
        changed = False
        for n in range(1, count):
            passed = {n}.union(set.intersection(*(certain[m] for m in before[n])) if before[n] else set())
            changed, certain[n] = changed or passed != certain[n], passed
    loops: dict[int, set[int]] = {}
    for n in range(count):
        for head in following[n] & certain[n]:
            loop = loops.setdefault(head, {head})
            left = [n]
            while left:
                m = left.pop()
                if m not in loop:
                    loop.add(m)
                    left += before[m]
    return loops
