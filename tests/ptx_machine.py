"""A machine that runs a kernel's PTX, instruction by instruction, on the host's memory.

What the simulator runs is Python with NumPy's integers; this is what the compiler made of it. Threads of a
block run one after the other until each waits or has ended, so an error of waiting is seen, not hidden.
"""

import ctypes
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ptx_meaning
from numba import types
from ptx import text_of

if TYPE_CHECKING:  # it needs the extra `cuda`
    from lowprec.kernels.cuda.twin import Twin

WARP = 32
_WORDS = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}
_ENDED = -1


class Statement(NamedTuple):
    """An instruction: its predicate, name and operands."""

    predicate: str
    opcode: str
    operands: list[str]


class Thread:
    """One thread: its registers and memory, where it is, and what it waits for."""

    def __init__(self, registers: int, local: int, shared: bytearray, place: dict[str, Any]) -> None:
        self.registers: list[Any] = [None] * registers  # nothing may read what nothing wrote
        self.local, self.shared = bytearray(local), shared
        self.at, self.waits = 0, ()
        self.__dict__.update(place)


class Regions:
    """The global memory that a kernel was given: no other may be read or written."""

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}
        self.starts: list[int] = []

    def add(self, start: int, size: int) -> None:
        """So many bytes."""
        if self.ends.get(start, -1) < start + size:
            self.ends[start] = start + size
            self.starts = sorted(self.ends)

    def check(self, address: int, size: int) -> None:
        """Refuse what lies outside."""
        before = self.starts[: bisect_right(self.starts, address)]
        if not any(address + size <= self.ends[start] for start in before[::-1]):
            raise AssertionError(f"the kernel was given no global memory at {address}")


def load(thread: Thread, space: str, address: int, size: int) -> int:
    """A word of memory, where it may lie."""
    if address % size:
        raise AssertionError(f"{space} memory at {address} is not aligned to {size}")
    if space == "global":
        thread.regions.check(address, size)
        return _WORDS[size].from_address(address).value
    room = getattr(thread, space)
    if address + size > len(room):
        raise AssertionError(f"{space} memory has {len(room)} bytes, not {address + size}")
    return int.from_bytes(room[address : address + size], "little")


def store(thread: Thread, space: str, address: int, size: int, value: int) -> None:
    """Write one."""
    load(thread, space, address, size)
    value &= (1 << (8 * size)) - 1
    if space == "global":
        _WORDS[size].from_address(address).value = value
    else:
        getattr(thread, space)[address : address + size] = value.to_bytes(size, "little")


def changed(thread: Thread, address: int, size: int, operation: str, value: int) -> int:
    """Change a word of global memory; what was there."""
    before = load(thread, "global", address, size)
    store(thread, "global", address, size, before + value if operation == "add" else max(before, value))
    return before


class Program:
    """A kernel made Python: a function for each run of instructions, which gives the number of the next."""

    def __init__(self, text: str) -> None:
        body = text[re.search(r"^\{", text, re.MULTILINE).end() : text.rindex("}")]
        self.symbols, self.sizes = _symbols(text)
        self.registers: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        runs: list[list[Statement]] = [[]]
        for one in re.findall(r"\s*(\$\w+:|[^;{}]+|[{}])", re.sub(r"\{([^{};]*)\}", r"(\1)", body)):
            if one.endswith(":"):
                runs.append([])
                self.labels[one[:-1]] = len(runs) - 1
            elif one.strip() and one[0] not in ".{}":
                runs[-1].append(_statement(one.strip()))
                if runs[-1][-1].opcode.split(".")[0] in ("bra", "ret", "bar", "shfl"):
                    runs.append([])
        lines = [f"def run_{number}(R, t):\n{self._run(number, run)}" for number, run in enumerate(runs)]
        names: dict[str, Any] = {
            **ptx_meaning.NAMES, "load": load, "store": store, "changed": changed,
        }  # fmt: skip
        exec("\n".join(lines), names)
        self.runs: list[Callable[..., int]] = [names[f"run_{number}"] for number in range(len(runs))]

    def _run(self, number: int, run: list[Statement]) -> str:
        """The body of the function of a run of instructions."""
        lines = []
        for one in run:
            lines.append("    " + self._line(one, number))
            if one.predicate:
                known = self._operand(one.predicate.strip("!"), 1)
                lines[-1] = f"    if {'not ' * one.predicate.startswith('!')}{known}: {lines[-1].strip()}"
        return "\n".join([*lines, f"    return {number + 1}"])

    def _line(self, one: Statement, number: int) -> str:
        """What an instruction does."""
        name, *rest = one.opcode.split(".")
        if name == "bra":
            return f"return {self.labels.get(one.operands[0], one.operands[0])!r}"
        if name == "ret":
            return f"return {_ENDED}"
        if name == "bar":
            return f"t.waits = ('bar',); return {number + 1}"
        width = int(re.sub(r"\D", "", rest[-1]) or 1)
        if name in ("ld", "st", "atom", "red"):
            return self._of_memory(name, rest, one.operands, width // 8)
        into, *given = one.operands
        values = [self._operand(x, width) for x in given]
        if name == "shfl":
            into, told = into.split("|")
            return (
                f"t.waits = ('shfl', {self._place(into)}, {self._place(told)}, {', '.join(values)}); "
                f"return {number + 1}"
            )
        return f"R[{self._place(into)}] = {ptx_meaning.value_of(one.opcode, values)}"

    def _of_memory(self, name: str, rest: list[str], operands: list[str], size: int) -> str:
        """What reads or writes memory does."""
        space = rest[0]
        if name in ("atom", "red"):
            place, value = operands[-2:]
            call = (
                f"changed(t, {self._address(place)}, {size}, {rest[1]!r}, {self._operand(value, 8 * size)})"
            )
            return call if name == "red" else f"R[{self._place(operands[0])}] = {call}"
        vector, place = operands if name == "ld" else operands[::-1]
        if space == "param":
            number = re.search(r"_param_(\d+)\]", place)[1]
            return f"R[{self._place(vector)}] = t.parameters[{number}]"
        parts, start = vector.strip("() ").split(","), self._address(place)
        each = [(f"{start} + {k * size}", part) for k, part in enumerate(parts)]
        if name == "st":
            values = [(place, self._operand(part, 8 * size)) for place, part in each]
            return "; ".join(f"store(t, {space!r}, {place}, {size}, {value})" for place, value in values)
        lines = [f"R[{self._place(part)}] = load(t, {space!r}, {place}, {size})" for place, part in each]
        if rest[-1].startswith("s"):  # the register is wider
            full = (1 << _bits_of(vector)) - 1
            lines.append(f"R[{self._place(vector)}] = signed(R[{self._place(vector)}], {8 * size}) & {full}")
        return "; ".join(lines)

    def _address(self, text: str) -> str:
        """An address in brackets."""
        parts = (self._operand(part, 64) for part in text.strip("[] ").split("+") if part)
        return f"({' + '.join(parts)}) % {1 << 64}"

    def _place(self, register: str) -> int:
        """The number of a register."""
        return self.registers.setdefault(register.strip(), len(self.registers))

    def _operand(self, text: str, width: int) -> str:
        """What an operand holds."""
        text = text.strip()
        if re.match(r"%(tid|ntid|ctaid|nctaid)\.", text):
            return "t." + text[1:].replace(".", "_")
        if text.startswith("%"):
            return f"R[{self._place(text)}]"
        if re.match(r"0[df][0-9A-Fa-f]+$", text):
            return str(int(text[2:], 16))
        if text in self.symbols:
            return str(self.symbols[text])
        return str(int(text, 0) & ((1 << width) - 1)) if text else "1"


def _statement(text: str) -> Statement:
    """What a statement without its semicolon says."""
    predicate, opcode, operands = re.match(
        r"(?:@(!?%\w+)\s+)?([a-z][\w.:]*)\s*(.*)", text, re.DOTALL
    ).groups()
    split = [one.strip() for one in re.split(r",(?![^(\[]*[)\]])", operands)] if operands.strip() else []
    return Statement(predicate or "", opcode, split)


def _bits_of(register: str) -> int:
    """How many bits a register has, by what NVVM calls it."""
    return {"rs": 16, "r": 32, "rd": 64}[re.match(r"%([a-z]+)", register)[1]]


def _symbols(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """Where arrays of shared and local memory lie, and how much there is of each."""
    places, sizes = {}, {"shared": 0, "local": 0}
    for space, align, name, size in re.findall(r"\.(shared|local) \.align (\d+) \.b8\s+(\w+)\[(\d+)\]", text):
        places[name] = -(-sizes[space] // int(align)) * int(align)
        sizes[space] = places[name] + int(size)
    return places, sizes


def flattened(kind: types.Type, value: Any) -> list[int]:
    """The patterns of an argument's numbers, each a parameter of the kernel."""
    if isinstance(kind, types.BaseTuple):
        if len(kind) != len(value):
            raise AssertionError(f"{kind} is no type of {value}")
        return [bits for one, part in zip(kind, value, strict=True) for bits in flattened(one, part)]
    if isinstance(kind, types.Float):
        return [ptx_meaning.pattern(float(value), kind.bitwidth)]
    return [int(value) & ((1 << kind.bitwidth) - 1)]


_programs: dict[Any, Program] = {}


def launch(
    twin: "Twin", blocks: int, threads: tuple[int, int], arguments: Sequence[Any], regions: Regions
) -> None:
    """Run a kernel on all threads of a grid."""
    if twin.function not in _programs:
        _programs[twin.function] = Program(text_of(twin))
    kinds = zip(twin.parameters, arguments, strict=True)
    parameters = [bits for kind, value in kinds for bits in flattened(kind, value)]
    execute(_programs[twin.function], blocks, threads, parameters, regions)


def execute(
    program: Program, blocks: int, threads: tuple[int, int], parameters: list[int], regions: Regions
) -> None:
    """Run a program on all threads of a grid."""
    wide, high = threads
    size = {"ntid_x": wide, "ntid_y": high, "ntid_z": 1, "nctaid_x": blocks, "nctaid_y": 1, "nctaid_z": 1}
    with np.errstate(all="ignore"):
        for block in range(blocks):
            shared = bytearray(program.sizes["shared"])
            places = [
                {**size, "tid_x": n % wide, "tid_y": n // wide, "tid_z": 0, "ctaid_x": block, "ctaid_y": 0}
                | {"ctaid_z": 0, "parameters": parameters, "regions": regions}
                for n in range(wide * high)
            ]
            count = len(program.registers)
            _block(program, [Thread(count, program.sizes["local"], shared, place) for place in places])


def _block(program: Program, threads: list[Thread]) -> None:
    """Run the threads of a block until all have ended."""
    left = threads
    while left:
        for thread in left:
            while thread.at != _ENDED and not thread.waits:
                thread.at = program.runs[thread.at](thread.registers, thread)
        left = [thread for thread in left if thread.at != _ENDED]
        if all(thread.waits[0] == "bar" for thread in left):
            for thread in left:
                thread.waits = ()
            continue
        for warp in range(-(-len(threads) // WARP)):
            _exchange(threads[warp * WARP : (warp + 1) * WARP])


def _exchange(warp: list[Thread]) -> None:
    """Give the threads of a warp that wait for each other's values those."""
    asking = {lane: thread for lane, thread in enumerate(warp) if thread.waits and thread.waits[0] == "shfl"}
    given = {lane: thread.waits for lane, thread in asking.items()}
    for lane, thread in asking.items():
        _, into, told, _, distance, bounds, members = given[lane]
        there = {other for other in range(len(warp)) if members >> other & 1}
        together = there == set(asking) and len({one.at for one in asking.values()}) == 1
        if not together or bounds != WARP - 1:
            raise AssertionError(f"lanes {sorted(there)} are to exchange values, and {sorted(asking)} do")
        known = lane ^ distance in given
        thread.registers[into] = given[lane ^ distance if known else lane][3]
        thread.registers[told] = int(known)
        thread.waits = ()
