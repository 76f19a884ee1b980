"""A reference page for every public module, written from the package itself, so that no list can go stale.

A module is public if it lies directly in lowprec, is a package, or is exported by the package that it lies
in, unless it is in ``INTERNAL``. Its public names are its ``__all__`` or, without one, what it defines and
what it imports as itself (``from x import y as y``). A class or function is described once, where its path
is shortest; other pages that have it link there.
"""

import ast
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import lowprec

INTERNAL = {
    "lowprec.app",
    "lowprec.kernels",
    # what is public of these, lowprec itself has, or a package among the public ones
    "lowprec.auditing",
    "lowprec.cast",
    "lowprec.convert",
    "lowprec.elementary",
    "lowprec.inner_products",
    "lowprec.modes",
    "lowprec.observed",
    "lowprec.quantizer",
    "lowprec.record",
    "lowprec.scheme",
    "lowprec.simulating",
    "lowprec.single_layer",
    # for the package's own use
    "lowprec.drawing",
    "lowprec.errors",
    "lowprec.files",
    "lowprec.ops.cuda",  # which cannot be imported without the extra
    "lowprec.restoring",
    "lowprec.toml",
}
"""Modules that have no page; a new one that is not here gets one."""
MENTIONED = {
    "lowprec": [
        "lowprec.auditing.Audit",
        "lowprec.auditing.AuditRow",
        "lowprec.convert.Description",
        "lowprec.modes.ScaleRule",
        "lowprec.record.Recording",
        "lowprec.record.Break",
        "lowprec.record.Moments",
        "lowprec.record.moments.Moment",
        "lowprec.record.grid.Grid",
        "lowprec.simulating.Simulation",
        "lowprec.single_layer.Sensitivity",
        "lowprec.single_layer.Effect",
    ],
    "lowprec.compat.qtorch": ["lowprec.compat.qtorch.number.Number"],
    "lowprec.formats": ["lowprec.formats.tabled.Table"],
    "lowprec.optim": ["lowprec.optim.algorithms.Options"],
}
"""What public functions take or give but no public module exports: described on these pages."""
FOLDER = "reference"
"""Of the pages, beside conf.py. All of it is generated."""


def modules() -> list[str]:
    """The public modules: lowprec, what lies directly in it, and the packages in those."""
    if stale := {name for name in INTERNAL if importlib.util.find_spec(name) is None}:
        message = f"`INTERNAL` must name modules of lowprec, got {sorted(stale)}. Take them out."
        raise ValueError(message)
    found = ["lowprec", *_below(lowprec)]
    return sorted(found, key=lambda name: (name.count("."), name))


def _below(package: ModuleType) -> Iterator[str]:
    """The public modules in a package."""
    for _, name, is_package in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if name in INTERNAL:
            continue
        module = importlib.import_module(name)
        exported = any(getattr(package, own) is module for own in names_of(package))
        if not (is_package or package is lowprec or exported):
            continue
        if names_of(module):  # a package that only holds others has nothing to describe
            yield name
        if is_package:
            yield from _below(module)


def names_of(module: ModuleType) -> list[str]:
    """The public names of a module, modules among them."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=str.casefold)
    names: set[str] = set()
    for node in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lowprec"):
            names |= {alias.name for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        else:
            names |= _assigned(node)
    return sorted((name for name in names if not name.startswith("_")), key=str.casefold)


def places() -> dict[str, dict[str, str]]:
    """For each public module its names, each with the full name under which it is described."""
    described: dict[int, str] = {}
    found: dict[str, dict[str, str]] = {}
    for module_name in modules():
        module = importlib.import_module(module_name)
        found[module_name] = {}
        for name in names_of(module):
            value, full = getattr(module, name), f"{module_name}.{name}"
            if inspect.ismodule(value):
                full = value.__name__
            elif inspect.isclass(value) or inspect.isfunction(value):
                full = described.setdefault(id(value), full)
            found[module_name][name] = full
    return found


def page(module_name: str, names: dict[str, str]) -> str:
    """A module's page, in reStructuredText."""
    module = importlib.import_module(module_name)
    own = {name: full for name, full in names.items() if full == f"{module_name}.{name}"}
    own = {name: full for name, full in own.items() if not inspect.ismodule(getattr(module, name))}
    elsewhere = {name: full for name, full in names.items() if name not in own}
    lines = [module_name, "=" * len(module_name), "", f".. automodule:: {module_name}", "   :no-index:", ""]
    mentioned = MENTIONED.get(module_name, [])
    described = [*own.values(), *mentioned]
    if described:
        lines += [".. list-table::", ""]
        for full in described:
            lines += [f"   * - :py:obj:`~{full}`", f"     - {_sentence(*full.rsplit('.', 1))}"]
        lines += [""]
    if elsewhere:
        lines += ["Described elsewhere:", ""]
        lines += [f"- {_link(full, getattr(module, name))}" for name, full in elsewhere.items()] + [""]
    lines += [f".. currentmodule:: {module_name}", ""]
    for name in own:
        lines += _entry(module_name, name)
    for full in mentioned:
        holder, _, name = full.rpartition(".")
        lines += _entry(holder, name, full)
    return "\n".join(lines)


def _sentence(module_name: str, name: str) -> str:
    """What the docstring of an object begins with."""
    value = getattr(importlib.import_module(module_name), name)
    if inspect.isclass(value) or inspect.isfunction(value):
        text = inspect.getdoc(value) or ""
    else:
        text = "\n".join(_described_data(module_name, name)[1])
    return " ".join(text.partition("\n\n")[0].split())


def _link(full: str, value: Any) -> str:
    """A reference to what another page describes."""
    return f":doc:`{full}`" if inspect.ismodule(value) else f":py:obj:`{full}`"


def _entry(module_name: str, name: str, shown: str | None = None) -> list[str]:
    """The directive of one object, under another name than its own if that is given."""
    value = getattr(importlib.import_module(module_name), name)
    shown = shown or name
    if inspect.isclass(value):
        return [f".. autoclass:: {shown}", "   :members:", "   :show-inheritance:", ""]
    if inspect.isfunction(value):
        return [f".. autofunction:: {shown}", ""]
    full, text = _described_data(module_name, name)
    canonical = [] if full == f"{module_name}.{name}" else [f"   :canonical: {full}"]
    return [f".. py:data:: {shown}", *canonical, "", *(f"   {line}" for line in text), ""]


def _described_data(module_name: str, name: str) -> tuple[str, list[str]]:
    """Where a value that is neither class nor function is assigned, and the docstring below it."""
    module = importlib.import_module(module_name)
    body = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
    for node, following in pairwise([*body, ast.Pass()]):
        if isinstance(node, ast.ImportFrom) and name in {alias.asname for alias in node.names}:
            return _described_data(str(node.module), name)
        if name in _assigned(node) and isinstance(following, ast.Expr):
            text = ast.literal_eval(following.value)
            return f"{module_name}.{name}", inspect.cleandoc(text).splitlines()
    message = f"{module_name}.{name} has no docstring. Write one below the line that assigns it."
    raise ValueError(message)


def _assigned(node: ast.stmt) -> set[str]:
    """The names that a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return {target.id for target in targets if isinstance(target, ast.Name)}


def write_pages(app: Any) -> None:
    """Write the pages that differ from those there, and remove those of modules that are gone."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    texts = {f"{module_name}.rst": page(module_name, names) for module_name, names in places().items()}
    for old in folder.glob("lowprec*.rst"):
        if old.name not in texts:
            old.unlink()
    for file_name, text in texts.items():
        file = folder / file_name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def check_entries(app: Any, env: Any) -> None:
    """Warn, which -W makes an error, of every public name that no page describes."""
    from sphinx.util import logging

    described = {name for name, *_ in env.get_domain("py").get_objects()}
    modules_named = set(modules())
    for module_name, names in places().items():
        for name, full in names.items():
            if full not in described | modules_named:
                logging.getLogger(__name__).warning("%s.%s has no entry", module_name, name)


def keep_public_bases(app: Any, name: str, obj: type, options: Any, bases: list[Any]) -> None:
    """Show, in the place of a base that no page describes, what it derives from itself."""
    described = {id(getattr(importlib.import_module(m), n)) for m, names in places().items() for n in names}
    pending, shown = [base for base in bases if inspect.isclass(base)], []
    while pending:
        base = pending.pop(0)
        if base.__module__.startswith("lowprec") and id(base) not in described:
            pending[:0] = base.__bases__
        elif base is not object and base not in shown:
            shown.append(base)
    bases[:] = [b for b in shown if not any(other is not b and issubclass(other, b) for other in shown)]
    bases[:] = bases or [object]


def keep_colons(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from reading an attribute's "Whether it is so: always" as a type and its description."""
    if what in {"attribute", "property", "data"} and lines:
        lines[:0] = ["..", ""]


def setup(app: Any) -> dict[str, bool]:
    """Hook into the build."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-bases", keep_public_bases)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before napoleon
    app.connect("env-check-consistency", check_entries)
    return {"parallel_read_safe": True}
