"""What the tests say of messages: their patterns and texts, and which messages they can match."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from raise_sites import HOLE, Site, whole

TESTS = Path(__file__).parent
LONG = 12
"""So many letters in a row, of those that a run does not fill in, tell a message from others."""

SHORT = 6
"""With fewer own letters in a row than these, the name and "must be" count too."""

CHOICE = re.compile(r"(?<!\\)\((?:\?:)?([^()\\]*\|[^()\\]*)\)")
"""Alternatives in a pattern."""

ESCAPED = re.compile(r"\\(\W)|\\\w[*+?]?|\[(?:\\.|[^]\\])+\][*+?]?|\.[*+?]|[()|.]|.[*?]", re.DOTALL)
"""What is no letter in a pattern: an escape, a class, a wildcard, the bars of a group."""


@dataclass(frozen=True)
class Text:
    """A string of a test: its place, and what it says, with holes."""

    place: str
    says: str


def texts_of(folder: Path, left_out: set[str]) -> list[Text]:
    """Every string of the tests under a folder but docstrings."""
    found = []
    for file in sorted(folder.rglob("test_*.py")):
        if file.name not in left_out:
            strings = _strings(ast.parse(file.read_text(encoding="utf-8")))
            found += [Text(f"{file.name}:{line}:{column}", says) for line, column, says in strings]
    return found


def _strings(node: ast.AST) -> Iterator[tuple[int, int, str]]:
    """The strings below a node with their places, an f-string as one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.JoinedStr):
            pieces = [v.value if isinstance(v, ast.Constant) else HOLE for v in child.values]
            yield child.lineno, child.col_offset, "".join(pieces)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.lineno, child.col_offset, child.value
        elif not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield from _strings(child)


def readings(text: str) -> Iterator[str]:
    """A string as it stands, and as a pattern whose wildcards are holes, for each of its alternatives."""
    yield text
    patterns = [text.removeprefix("^").removesuffix("$")]
    while found := CHOICE.search(patterns[0]):
        first, last = found.span()
        ends = [(pattern[:first], pattern[last:]) for pattern in patterns]
        patterns = [f"{head}{option}{tail}" for head, tail in ends for option in found[1].split("|")]
    for pattern in patterns:
        yield ESCAPED.sub(lambda found: found[1] or HOLE, pattern)


def begins(message: str, text: str) -> bool:
    """Whether a message can begin with a text, or a text with the message; a hole of either is anything
    but the name of an argument.

    A bit of ``states`` for each place of the message where what is read of the text can end.
    """
    anything = sum(1 << i for i, letter in enumerate(message) if letter == HOLE)
    at = {letter: sum(1 << i for i, other in enumerate(message) if other == letter) for letter in set(text)}
    states = 1
    for letter in text:
        states |= (states & anything) << 1  # a hole may also be empty
        if letter == HOLE:
            states = -(states & -states) & ((2 << len(message)) - 1)  # from the first place on
        else:
            kept = 0 if letter == "`" else states & anything  # no value holds the name of an argument
            states = kept | ((states & at[letter]) << 1)
        if not states:
            return False
        if states >> len(message):
            return True
    return True


def own_spans(parts: tuple[str, ...]) -> list[str]:
    """The parts of a message that say more than the frame of every message: must and remedy."""
    if len(parts) == 1:
        return [parts[0]]
    name, must, _, remedy = parts
    own = must.removeprefix("be ")
    is_short = all(len(run) < SHORT for run in own.split(HOLE))
    return [f"`{name}` must {must}" if is_short else own, remedy]


def marks(parts: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """The rows of letters that a message can be known by, with what is before and behind each."""
    message = whole(parts)
    for span in own_spans(parts):
        start = message.rindex(span)
        for run in span.split(HOLE):
            width = min(LONG, len(run))
            for i in range(start, start + len(run) - width + 1):
                if width >= SHORT:
                    yield message[:i], message[i : i + width], message[i + width :]
            start += len(run) + 1


class Texts:
    """The texts of the tests, to be found by any ``SHORT`` letters in a row."""

    def __init__(self, texts: Iterable[Text]) -> None:
        self._places: dict[str, list[tuple[Text, str, int]]] = defaultdict(list)
        for text in texts:
            for reading in set(readings(text.says)):
                for i in range(len(reading) - SHORT + 1):
                    self._places[reading[i : i + SHORT]].append((text, reading, i))

    def about(self, site: Site) -> set[Text]:
        """Those that hold a mark of a site's message, and whose other letters fit around it."""
        return {text for parts in site.parts for text in self._about(parts)}

    def _about(self, parts: tuple[str, ...]) -> Iterator[Text]:
        for before, mark, behind in marks(parts):
            for text, reading, i in self._places.get(mark[:SHORT], ()):
                if reading.startswith(mark, i):
                    head, tail = reading[:i], reading[i + len(mark) :]
                    if begins(behind, tail) and begins(before[::-1], head[::-1]):
                        yield text


def untested(sites: Iterable[Site], texts: Texts) -> list[Site]:
    """The sites that are left when each text stands for one site, as many as can be."""
    about = {site: texts.about(site) for site in sites}
    taken: dict[Text, Site] = {}

    def finds(site: Site, seen: set[Text]) -> bool:
        """Whether a site gets a text, where others may move to another of theirs."""
        for text in about[site] - seen:
            seen.add(text)
            if text not in taken or finds(taken[text], seen):
                taken[text] = site
                return True
        return False

    return [site for site in about if not finds(site, set())]
