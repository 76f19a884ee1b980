"""Every `raise` of the package that a user can meet, and its text as far as the source tells it."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import lowprec

PACKAGE = Path(lowprec.__file__).parent
HOLE = "\0"
"""Stands in a text for what only a run knows."""

SENTENCES = {"value_error", "type_error", "sentence"}
"""The functions of `lowprec.errors`: name, must, got, remedy."""

NOT_FOR_USERS = {
    "Interrupted": "ends a job that was stopped; the command says how to go on",
    "KeyboardInterrupt": "is the user's own",
    "typer.Exit": "ends a command that has said why",
    "Unavailable": "becomes a cell of a table: what another package cannot do",
    "FormatError": "is a counterexample: the property, the input, the result and the right one",
    "OverflowError": "never leaves lowprec.formats: whoever asks for an exact float says what it is for",
    "AttributeError": "is Python's own sentence where a module looks up its names",
}
"""Why these exceptions are not worded like the others."""


@dataclass(frozen=True)
class Site:
    """A `raise`: its file, line and exception, and what its sentence may be."""

    file: Path
    line: int
    kind: str
    parts: tuple[tuple[str, ...], ...]
    """(name, must, got, remedy) each time it is built by `lowprec.errors`, (text,) otherwise."""

    def __str__(self) -> str:
        where = self.file.relative_to(PACKAGE.parent).as_posix()
        return f"{where}:{self.line}: {' / '.join(map(shown, self.texts))}"

    @property
    def texts(self) -> list[str]:
        """Each whole message."""
        return [whole(parts) for parts in self.parts]


def shown(text: str) -> str:
    """A text for people to read."""
    return text.replace(HOLE, "{…}")


def whole(parts: tuple[str, ...]) -> str:
    """The message of the parts of a sentence."""
    if len(parts) == 1:
        return parts[0]
    name, must, got, remedy = parts
    return f"`{name}` must {must}, got {got}.{' ' * bool(remedy)}{remedy}"


def sites(package: Path = PACKAGE) -> list[Site]:
    """Every `raise` under a folder, without those that are left out by rule."""
    return [site for file in sorted(package.rglob("*.py")) for site in sites_of(file)]


def sites_of(file: Path) -> Iterator[Site]:
    """Those of one file."""
    source = _Source(ast.parse(file.read_text(encoding="utf-8")))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Raise) and not source.is_left_out(node):
            assert node.exc is not None
            kind, parts = source.sentences(node.exc, node)
            yield Site(file, node.lineno, kind, tuple(dict.fromkeys(parts)))


class _Source:
    """A module: its tree, and the way from a node to what is around it."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self._set: dict[int, dict[str, list[tuple[ast.Assign, ast.expr]]]] = {}
        self.functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    def around(self, node: ast.AST) -> list[ast.AST]:
        """The nodes that a node lies in, the innermost first."""
        found = []
        while node in self.parents:
            node = self.parents[node]
            found.append(node)
        return found

    def is_left_out(self, node: ast.Raise) -> bool:
        """Whether no user reads it: raised again, or abstract, or another's to explain."""
        if node.exc is None:
            return True
        name = ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
        function = self.parents[node]
        is_whole_body = isinstance(function, ast.FunctionDef) and all(
            isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) for line in function.body[:-1]
        )
        return name in NOT_FOR_USERS or (name == "NotImplementedError" and is_whole_body)

    def sentences(self, raised: ast.expr, node: ast.AST) -> tuple[str, list[tuple[str, ...]]]:
        """The exception of a `raise`, and what its sentence may be made of."""
        assert isinstance(raised, ast.Call), ast.unparse(raised)
        called = ast.unparse(raised.func)
        if called in SENTENCES:
            return called, self.sentence(raised, node, {})
        if called in self.functions:  # a function of this file that makes the error
            function = self.functions[called]
            pairs = zip(function.args.args, raised.args, strict=False)
            given = {argument.arg: self.texts(value, node, {}) for argument, value in pairs}
            returned = [n.value for n in ast.walk(function) if isinstance(n, ast.Return)]
            found = [self._made(value, given) for value in returned if isinstance(value, ast.Call)]
            return found[0][0], [parts for _, made in found for parts in made]
        return self._made(raised, {}, node)

    def _made(
        self, call: ast.Call, given: dict[str, list[str]], node: ast.AST | None = None
    ) -> tuple[str, list[tuple[str, ...]]]:
        """The same for a call of an exception or of `lowprec.errors`."""
        node = node or call
        called = ast.unparse(call.func)
        if called in SENTENCES:
            return called, self.sentence(call, node, given)
        if not call.args:
            return called, [("",)]
        [message, *_] = call.args
        if isinstance(message, ast.Name):
            message = next(iter(self._assigned(message.id, node)), message)
        if isinstance(message, ast.Call) and ast.unparse(message.func) in SENTENCES:
            return called, self.sentence(message, node, given)
        return called, [(text,) for text in self.texts(message, node, given)]

    def sentence(self, call: ast.Call, node: ast.AST, given: dict[str, list[str]]) -> list[tuple[str, ...]]:
        """Every (name, must, got, remedy) of a call of `lowprec.errors`."""
        values = dict(zip(("name", "must", "got", "remedy"), call.args, strict=False))
        values |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        name, must = (self.texts(values[part], node, given) for part in ("name", "must"))
        got = [repr(values["got"].value)] if isinstance(values["got"], ast.Constant) else [HOLE]
        remedy = self.texts(values["remedy"], node, given) if "remedy" in values else [""]
        return list(product(name, must, got, remedy))

    def texts(self, value: ast.expr, node: ast.AST, given: dict[str, list[str]]) -> list[str]:
        """What a string expression may be, seen from a node; a hole for what only a run knows."""
        match value:
            case ast.Constant(value=str() as text):
                return [text]
            case ast.JoinedStr(values=values):
                pieces = [self.texts(piece, node, given) for piece in values]
                return ["".join(piece) for piece in product(*pieces)]
            case ast.FormattedValue(value=ast.Name() as inner):
                return self.texts(inner, node, given)
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                pairs = product(self.texts(left, node, given), self.texts(right, node, given))
                return ["".join(pair) for pair in pairs]
            case ast.IfExp(body=body, orelse=other):
                return [*self.texts(body, node, given), *self.texts(other, node, given)]
            case ast.BoolOp(op=ast.Or(), values=values):
                return [text for one in values for text in self.texts(one, node, given)]
            case ast.Name(id=name) if name in given:
                return given[name]
            case ast.Name(id=name):
                found = self._assigned(name, node)
                return [text for one in found for text in self.texts(one, node, given)] or [HOLE]
        return [HOLE]

    def _assigned(self, name: str, node: ast.AST) -> list[ast.expr]:
        """What was assigned to a name before a node, back to what always was."""
        around = self.around(node)
        scope = next((n for n in around if isinstance(n, ast.FunctionDef)), None)
        if scope is not None:
            found = []
            for line, value in self._settings(name, scope):
                if line.lineno < node.lineno:
                    found.append(value)
                    if self.parents[line] in around:
                        return found
            if found or name in _local_names(scope):
                return found
        of_module = self._settings(name, self.tree)
        return [value for line, value in of_module if self.parents[line] is self.tree]

    def _settings(self, name: str, place: ast.AST) -> list[tuple[ast.Assign, ast.expr]]:
        """The assignments to a name within a place, the last first."""
        if id(place) not in self._set:
            found = self._set[id(place)] = defaultdict(list)
            for line in ast.walk(place):
                if isinstance(line, ast.Assign):
                    for target, value in _pairs(line.targets[0], line.value):
                        found[ast.unparse(target)].append((line, value))
        return sorted(self._set[id(place)][name], key=lambda pair: -pair[0].lineno)


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """What an assignment assigns to what."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def _local_names(function: ast.FunctionDef) -> set[str]:
    """The names that a function binds."""
    arguments = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    bound = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return arguments | bound
