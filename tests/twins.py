"""The functions that make kernels for CUDA devices, and the tests' cases of each."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import lowprec

PACKAGE = Path(lowprec.__file__).parent / "kernels" / "cuda"
TESTS = Path(__file__).parent / "cuda"


def factories(package: Path = PACKAGE) -> list[str]:
    """Each function that makes a ``Twin`` or a ``cuda.jit`` kernel, as module.function.

    In place of a private one come those that call it. What stands outside of functions has a line number.
    """
    found = []
    for file in sorted(package.glob("*.py")):
        if file.name == "twin.py":  # which compiles what others make
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        making = {one.name for one in functions if _makes_kernel(one)}
        for one in functions:
            called = {ast.unparse(node.func) for node in ast.walk(one) if isinstance(node, ast.Call)}
            if one.name in making or {name for name in called & making if name.startswith("_")}:
                making.add(one.name)
        private = {name for name in making if name.startswith("_")}
        used = {name for name in private if file.read_text(encoding="utf-8").count(f"{name}(") > 1}
        found += [f"{file.stem}.{one.name}" for one in functions if one.name in making - used]
        rest = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
        found += [f"{file.stem}:{node.lineno}" for node in rest if _makes_kernel(node)]
    return found


def _makes_kernel(within: ast.AST) -> bool:
    """Whether something in it calls Twin, or is cuda.jit but for functions that kernels call."""
    for node in ast.walk(within):
        if isinstance(node, ast.FunctionDef) and "cuda.jit" in map(ast.unparse, node.decorator_list):
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Twin", "twin.Twin", "cuda.jit"):
            return not any(keyword.arg == "device" for keyword in node.keywords)
    return False


def cases(kind: str, tests: Path = TESTS) -> dict[str, Any]:
    """The tables ``TWINS`` of the test modules of a kind, ``simulated`` or ``ptx``, by module.function.

    The table of ``test_ptx_NAME.py`` gives for each function of the module ``MODULE`` (``NAME`` where there
    is none) the constants that its tests compile it for; that of ``test_simulated_NAME.py`` something that
    launches such a kernel, and compares what it writes with the CPU, when it is called with pytest's
    monkeypatch.
    """
    found: dict[str, Any] = {}
    for file in sorted(tests.glob(f"test_{kind}_*.py")):
        specification = importlib.util.spec_from_file_location(f"twins_of_{file.stem}", file)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        name = getattr(module, "MODULE", re.sub(f"^test_{kind}_", "", file.stem))
        for function, case in getattr(module, "TWINS", {}).items():
            found[function if "." in function else f"{name}.{function}"] = case
    return found


def made_by(name: str, constants: tuple[Any, ...]) -> Any:
    """What a function makes of constants."""
    module, function = name.split(".")
    return getattr(importlib.import_module(f"lowprec.kernels.cuda.{module}"), function)(*constants)


def watched(name: str, monkeypatch: Any) -> tuple[list[Any], list[Any]]:
    """What a function makes from now on, and what is launched."""
    from lowprec.kernels.cuda.twin import Twin

    module, function = name.split(".")
    own = getattr(importlib.import_module(f"lowprec.kernels.cuda.{module}"), function)
    launch = Twin.launch
    made, launched = [], []

    def make(*constants: Any, **further: Any) -> Any:
        """Note what that function makes,"""
        made.append(own(*constants, **further))
        return made[-1]

    def note(self: Any, *arguments: Any) -> None:
        """and what is launched."""
        launched.append(self)
        launch(self, *arguments)

    for known, one in list(sys.modules.items()):
        if known.startswith("lowprec.kernels.cuda.") and getattr(one, function, None) is own:
            monkeypatch.setattr(one, function, make)
    monkeypatch.setattr(Twin, "launch", note)
    return made, launched
