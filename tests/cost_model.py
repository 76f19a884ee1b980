"""What an elementwise kernel costs on an H100, on paper: counted from its PTX, nothing of it measured."""

import re
from typing import NamedTuple

from ptx import Assembled, of_loop_over_elements
from ptx_flow import Instruction

BANDWIDTH = 3.35e12
"""Bytes a second of an H100's memory; what follows is of its SXM board too."""
PROCESSORS, LANES, CLOCK = 132, 4 * 32, 1.755e9
THREADS, BLOCK, REGISTERS = 2048, 256, 65536
"""Of one processor: the most threads, threads of a block, registers."""
LATENCY = 0.6e-6
"""Seconds that a load from memory takes when many are under way: assumed."""


class Cost(NamedTuple):
    """What one element costs, and which part of the bandwidth is left for it."""

    bytes: int
    instructions: float
    """As the processor issues them: an operation on 64 bits is two, a product of 64 bits four,
    and what only names a register anew none."""
    loads: int
    """Under way at once in a thread."""
    threads: int
    """At once on a processor."""

    @property
    def issued(self) -> float:
        """The part of the bandwidth at which all lanes are busy."""
        return PROCESSORS * LANES * CLOCK / self.instructions * self.bytes / BANDWIDTH

    @property
    def waited(self) -> float:
        """The part of the bandwidth that the loads under way can fill; a store follows each."""
        return PROCESSORS * self.threads * self.loads * self.bytes / LATENCY / BANDWIDTH

    @property
    def fraction(self) -> float:
        """The part that is left."""
        return min(1.0, self.issued, self.waited)


def weight(one: Instruction) -> int:
    """How many instructions of 32 bits stand for one of PTX; none for what only names a register anew."""
    if re.match(r"mov|cvt\.u32\.u64|cvt\.u64\.u32", one.opcode) or re.match(r"shr\.u64 .*, 32$", one.text):
        return 0
    if re.match(r"(mul|mad)\.lo\.[sub]64", one.opcode):
        return 4
    return 2 if re.search(r"\.([sub]64|f64)\b|^(mul|mad)\.wide", one.opcode) else 1


def cost_of(ptx: str, made: Assembled, size: int) -> Cost:
    """The cost of an element of so many bytes."""
    loop = of_loop_over_elements(ptx)
    codes = [one.opcode for one in loop]
    stores = [place for place, code in enumerate(codes) if code.startswith("st.global")]
    loads = sum(code.startswith("ld.global") for code in codes[: stores[0]])
    issued = sum(map(weight, loop)) / len(stores)
    blocks = min(THREADS // BLOCK, REGISTERS // (-(-made.registers // 8) * 8 * BLOCK))
    return Cost(2 * size, issued, loads, blocks * BLOCK)
