"""The functions that make kernels for CUDA devices, and the tests' cases of each."""

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import lowprec

PACKAGE = Path(lowprec.__file__).parent / "kernels" / "cuda"
TESTS = Path(__file__).parent / "cuda"


def factories(package: Path = PACKAGE) -> list[str]:
    """Each function in which a ``Twin`` or a ``cuda.jit`` kernel is made, as module.function."""
    found = []
    for file in sorted(package.glob("*.py")):
        if file.name == "twin.py":  # which compiles what others make
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        within: set[ast.AST] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node not in within:
                within |= set(ast.walk(node)) - {node}
                decorators = [
                    ast.unparse(one) for deep in ast.walk(node) for one in getattr(deep, "decorator_list", [])
                ]
                if "cuda.jit" in decorators or any(map(_makes_kernel, ast.walk(node))):
                    found.append(f"{file.stem}.{node.name}")
        outside = [node for node in ast.walk(tree) if node not in within and _makes_kernel(node)]
        found += [f"{file.stem}:{node.lineno}" for node in outside]  # a module must not, as there is no case
    return found


def _makes_kernel(node: ast.AST) -> bool:
    """Whether it calls Twin, or is cuda.jit but for functions that kernels call."""
    if isinstance(node, ast.Call):
        is_device = any(keyword.arg == "device" for keyword in node.keywords)
        return ast.unparse(node.func) in ("Twin", "twin.Twin", "cuda.jit") and not is_device
    return False


def cases(kind: str, tests: Path = TESTS) -> dict[str, Any]:
    """The tables ``TWINS`` of the test modules of a kind, ``simulated`` or ``ptx``, by module.function.

    The table of ``test_ptx_NAME.py`` gives for each function of the module ``MODULE`` (``NAME`` where there
    is none) the constants that its tests compile it for; that of ``test_simulated_NAME.py`` something to
    call that launches such a kernel and compares what it writes with the CPU.
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
