"""Every error that a user can meet: it has a test that matches its text, and names what to do.

The rule, which is read from the source (``raise_sites``) and compared with the tests (``tested_texts``):

- A `raise` makes its message with `lowprec.errors`: ``value_error(name, must, got, remedy)``,
  ``type_error(…)``, or ``sentence(…)`` within another exception. `RuntimeError` and `ImportError`
  complain of a moment and not of a value, and are written out: `` `name` must …. Remedy``. What is
  caught and raised again may get a beginning that says where it was.
- ``name`` is an argument, a field, a method or a key of the package, an option or a command.
- ``must`` goes on from "must", and says what to pass: it begins with words of ``TELLS``. If it does
  not, as in "not …", "be whole" or "keep every value …", there is a remedy, a sentence of its own.
- Some test has a text, a ``match=`` or what stands in an assertion, that holds twelve letters in a row
  of the site's own words and can otherwise only be a part of its message. Each text stands for one
  `raise`: two with the same message need two tests.

Left out are a bare `raise`, abstract methods, and the exceptions of ``NOT_FOR_USERS``.
"""

import ast
import dataclasses
import re
from functools import cache
from pathlib import Path

import pytest
from raise_sites import HOLE, PACKAGE, Site, shown, sites, sites_of
from tested_texts import TESTS, Text, Texts, texts_of, untested

TELLS = re.compile(
    r"""
    be \s (an?|the|two|(one|some)\sof|at\s(least|most)|above|below|between|left\sout|positive|values?\sof)\b
    | be \s (True|true|False|None)\b | be \s ['\0\d] | be \s on \s \0
    | be \s [^,:]+ (,\s[^,:]+)* \s or \s
    | be \s (float64\snumbers|powers\sof)
    | (lie|fit\sinto|differ|build|return|match|map|name|include|give) \s (?!no\b|nothing)
    | (have|hold) \s (?!no\b|nothing)
    | (have|hold) \s no \s (more|keys|tensors)\b .* \s (than|but) \s
    """,
    re.VERBOSE,
)
"""How a "must" begins that says what to pass; a hole is what a run fills in."""

SPOKEN = re.compile(rf"[A-Z{HOLE}](.*[.?{HOLE}])?", re.DOTALL)
"""A remedy: a sentence, or what only a run knows."""

WITHOUT_VALUE = {"RuntimeError", "ImportError"}
"""They are about a moment: what must come first, or be installed."""


OF_TORCH = {"create_graph"}
"""Arguments of functions of torch that call ours."""
INSTALLED = {"numba-cuda"}
"""What pip installs, and its users know by that name."""


@cache
def all_sites() -> tuple[Site, ...]:
    return tuple(sites())


@cache
def known_names() -> frozenset[str]:
    """The arguments, fields, functions, classes and keys of the package, and arguments of its commands."""
    found = OF_TORCH | INSTALLED
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.arg(arg=name) | ast.AnnAssign(target=ast.Name(id=name)):
                    found.add(name)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.alias(name=name):
                    found.add(name)
                case ast.Subscript(slice=ast.Constant(value=str() as name)):
                    found.add(name)
                case ast.keyword(arg="metavar", value=ast.Constant(value=str() as name)):  # RUN, in its help
                    found.add(name)
    return frozenset(found)


def is_name(name: str) -> bool:
    """Whether a user finds it: an option, a command, or a name of the package; holes are."""
    if HOLE in name or re.fullmatch(r"--[a-z-]+|lowprec [a-z]+", name):
        return True
    return all(part in known_names() for part in name.split("."))


def faults(site: Site) -> list[str]:
    """What is missing in the message of a site."""
    return sorted({fault for parts in site.parts for fault in faults_of(site.kind, parts)})


def faults_of(kind: str, parts: tuple[str, ...]) -> list[str]:
    """What is missing in one message."""
    if len(parts) == 4:
        name, must, _, remedy = parts
        told = bool(TELLS.match(must))
    elif kind in WITHOUT_VALUE and (found := re.fullmatch(r"`([^`]+)` must (.+?)\. (.+)", parts[0])):
        name, must, remedy = found.groups()
        remedy, told = remedy if remedy.endswith(".") else f"{remedy}.", False
    elif kind.startswith("type(") and re.fullmatch(f".*`[^`]+`: {HOLE}", parts[0]):
        return []
    else:
        return ["it is not made with lowprec.errors: value_error, type_error or sentence"]
    found = []
    if not is_name(name):
        found.append(f"it does not name its argument: `{shown(name)}` is none")
    if not re.match(rf"[a-z{HOLE}]", must) or must.endswith("."):
        found.append('"must" is not followed by what must be')
    if not told and not remedy:
        found.append(f'it has no remedy, and "must {shown(must)}" does not say what to pass (see TELLS)')
    if remedy and not SPOKEN.fullmatch(remedy):
        found.append(f"its remedy is no sentence: {shown(remedy)!r}")
    return found


def test_the_sites_are_found() -> None:
    """Else nothing below could fail."""
    assert len(all_sites()) > 350
    assert {"value_error", "type_error", "RuntimeError", "FileNotFoundError"} <= {s.kind for s in all_sites()}
    unread = [str(site) for site in all_sites() if not any(map(read, site.texts))]
    assert unread == []


def read(text: str) -> bool:
    """Whether the source tells a message: some letters besides the frame."""
    return len(re.sub(rf"`|must|got|[\W{HOLE}]", "", text)) > 4


def test_every_message_names_the_argument_the_value_and_the_remedy() -> None:
    found = [f"{site}\n    {fault}" for site in all_sites() for fault in faults(site)]
    assert found == [], "\n" + "\n".join(found)


def test_every_raise_has_a_test_that_matches_its_text() -> None:
    texts = Texts(texts_of(TESTS, {Path(__file__).name}))
    found = [
        f"{site}\n    no test has a text of its own for it; those of others: "
        f"{', '.join(sorted(text.place for text in texts.about(site))) or 'none'}"
        for site in untested(all_sites(), texts)
    ]
    assert found == [], "\n" + "\n".join(found)


def site_of(path: Path, line: str) -> Site:
    """The one site of a source file that holds a line."""
    file = path / "planted.py"
    file.write_text(f"from lowprec.errors import type_error, value_error\n{line}\n", encoding="utf-8")
    [site] = sites_of(file)
    return site


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('raise value_error("bits", "be at least 1", 0)', None),
        ('raise value_error("bits", "not be odd", 3, "Add one.")', None),
        ('raise OSError(sentence("--out", "be a folder", path))', None),
        ('raise RuntimeError("`synchronize` must come later. Wait.")', None),
        ('raise value_error("bits", "not be odd", 3)', "no remedy"),
        ('raise value_error("bits", "be prime", 4)', "no remedy"),
        ('must = "be prime" if x else "be odd"\nraise value_error("bits", must, 4)', "no remedy"),
        ('raise value_error("bits", "be prime", 4, "Such as 5")', "no sentence"),
        ('raise value_error("the bits", "be at least 1", 0)', "does not name its argument"),
        ('raise type_error("bots", "be an integer", 0.5)', "does not name its argument"),
        ('raise value_error("bits", "Be at least 1", 0)', "not followed by"),
        ('raise ValueError("`bits` must be at least 1, got 0. Add one.")', "not made with lowprec.errors"),
        ('text = f"Wrong bits: {bits}."\nraise ValueError(text)', "not made with lowprec.errors"),
        ('raise RuntimeError("`synchronize` must come later.")', "not made with lowprec.errors"),
    ],
)
def test_a_planted_fault_is_seen(line: str, fault: str | None, tmp_path: Path) -> None:
    found = faults(site_of(tmp_path, line))
    assert (found == []) if fault is None else any(fault in one for one in found)


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ("`bits` must be at least 3 for posits, got 2", True),
        (r"must be at least \d+ for posits", True),
        (r"must be (at least 3|at most 9) for posits", True),
        ("`bits` must be 3 for posits", False),
        ("`bits` must be at most 3 for posits", False),
        ("`word_bits` must be at least 3 for posits", False),
        ("`bits` must be", False),
        (".*", False),
    ],
)
def test_a_text_stands_for_a_message_only_if_it_can_be_of_no_other(
    text: str, is_told: bool, tmp_path: Path
) -> None:
    site = site_of(tmp_path, 'raise value_error("bits", f"be at least {least} for posits", bits)')
    assert (untested([site], Texts([Text("here", text)])) == []) == is_told


def test_a_text_stands_for_one_raise(tmp_path: Path) -> None:
    line = 'raise value_error("bits", "be at least 1 for posits", bits)'
    first, texts = site_of(tmp_path, line), [Text("here", "`bits` must be at least 1 for posits")]
    second = dataclasses.replace(first, line=7)
    assert untested([first, second], Texts(texts)) == [second]
    assert untested([first, second], Texts([*texts, Text("there", "be at least 1 for posits")])) == []
