"""What holds for the repository as a whole: its version, imports, files and dependencies."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import lowprec

ROOT = Path(__file__).parents[1]
PACKAGE = Path(lowprec.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

PUBLIC_NAMES = {
    "Arithmetic",
    "BlockFloatingPoint",
    "Cast",
    "Counters",
    "FixedPoint",
    "FloatingPoint",
    "Operands",
    "Overflow",
    "PerBlock",
    "PerChannel",
    "PerGroup",
    "PerTensor",
    "Quantizer",
    "Rounding",
    "Rule",
    "SCHEMES",
    "Scaled",
    "Scheme",
    "Specials",
    "add",
    "audit",
    "convert",
    "decode",
    "describe",
    "div",
    "dot",
    "encode",
    "explore",
    "finfo",
    "fma",
    "formats",
    "functional",
    "load_packed",
    "matmul",
    "mean",
    "mul",
    "nn",
    "observers",
    "optim",
    "pack",
    "prepare",
    "quantize",
    "record",
    "revert",
    "save_packed",
    "scales",
    "sensitivity",
    "simulate",
    "sqrt",
    "sub",
    "sum",
    "unpack",
}


def project() -> dict:
    """The [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pytest_options() -> list[str]:
    """What pytest is always called with."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["tool"]["pytest"]["ini_options"]["addopts"]


def module_names(requirements: list[str]) -> set[str]:
    """The import names of requirements; the project's own extras are left out."""
    names = {re.match(r"[\w.-]+", r).group().replace("-", "_").lower() for r in requirements}
    return names - {"lowprec"}


def third_party_imports(files: list[Path]) -> set[str]:
    """The packages besides ours and Python's that files import or are skipped without."""
    names: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
                names.add(ast.literal_eval(node.args[0]))
    packages = {name.partition(".")[0] for name in names}
    own = {"lowprec", *(file.stem for file in files), *(file.parent.name for file in files)}
    return packages - set(sys.stdlib_module_names) - own


def run(code: str, path: Path, **environment: str) -> tuple[str, str]:
    """What a fresh interpreter prints to stdout and stderr, with ``path`` first on its path."""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=path,
        env={**os.environ, "PYTHONPATH": str(path), **environment},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, finished.stderr


def test_the_installed_version_is_the_source_version() -> None:
    try:
        installed = importlib.metadata.version("lowprec")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("lowprec runs from its source folder and is not installed")
    assert installed == lowprec.__version__


def test_the_public_names_are_these() -> None:
    assert set(lowprec.__all__) == PUBLIC_NAMES
    assert len(lowprec.__all__) == len(PUBLIC_NAMES)
    assert all(getattr(lowprec, name).__doc__ for name in PUBLIC_NAMES)


def test_importing_is_light_and_compiles_nothing() -> None:
    code = """
import sys
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    import lowprec, lowprec.formats
import torch
print(sorted({name.partition(".")[0] for name in sys.modules}))
print(len(compiled.buffer), torch.cuda.is_initialized(), "torch._dynamo" in sys.modules)
later = ["lowprec.auditing", "lowprec.explore", "lowprec.single_layer"]
print([name in sys.modules for name in later], set(lowprec.__all__) <= set(dir(lowprec)))
lowprec.audit, lowprec.explore, lowprec.sensitivity
print([name in sys.modules for name in later])
"""
    printed, complaints = run(code, PACKAGE.parent)
    assert complaints == ""
    modules, rest, before, after = printed.splitlines()
    assert (before, after) == ("[False, False, False] True", "[True, True, True]")
    heavy = {"matplotlib", "rich", "typer", "safetensors", "hypothesis", "pytest", "IPython"}
    assert not heavy & set(ast.literal_eval(modules))
    assert rest == "0 False False"


def test_a_name_that_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'lowprec' has no attribute 'quantise'"):
        lowprec.quantise  # noqa: B018


def test_kernels_run_where_no_cache_folder_can_be_written(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "app")
    package = shutil.copytree(PACKAGE, tmp_path / "lowprec", ignore=ignored)
    file = tmp_path / "file"
    file.touch()
    for folder in (package, *(f for f in package.rglob("*") if f.is_dir())):
        (folder / "__pycache__").touch()  # a file in the folder's place keeps even root out
    code = """
import torch, lowprec
print(lowprec.__file__)
print(lowprec.quantize(torch.tensor([0.3]), "e4m3fn").item())
"""
    below_a_file = str(file / "cache")
    homes = ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "NUMBA_CACHE_DIR")
    environment = dict.fromkeys(homes, below_a_file) | {"PYTHONDONTWRITEBYTECODE": "1"}
    printed, notice = run(code, tmp_path, **environment)
    imported, value = printed.splitlines()
    assert Path(imported).is_relative_to(tmp_path)
    assert float(value) == 0.3125
    assert "not cached: no folder can be written" in notice


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_a_source_file_is_short_and_named_for_what_it_does(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400
    assert file.stem not in {"utils", "util", "common", "misc", "core", "helpers"}


def repository_files() -> Iterator[Path]:
    """The files of the repository, without those that runs and tools leave behind."""
    made = re.compile(r"cache|\.hypothesis|docs.(_build|notebooks|reference)\b")
    for entry in sorted(ROOT.iterdir()):
        if entry.is_file() and entry.name != ".git" and not entry.name.startswith(".coverage"):
            yield entry
        elif entry.name in {".ci", ".github", "benchmarks", "docs", "lowprec", "notebooks", "tests"}:
            yield from (f for f in entry.rglob("*") if f.is_file() and not made.search(str(f)))


def text_of(file: Path) -> str:
    """The text of a file, none if it is binary."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    machine = re.compile(r"(?<![\w.$~}>)])/(home|root|work|tmp|opt|mnt|Users)/\w|\b[A-Z]:\\\w")
    lines = [(file.name, line) for file in repository_files() for line in text_of(file).splitlines()]
    assert len(lines) > 1000
    assert [found for found in lines if machine.search(found[1])] == []


def test_every_import_of_the_package_is_declared_and_every_declared_one_is_used() -> None:
    optional = {"hypothesis", "pandas"}  # of the strategies, and of tables that become frames
    assert third_party_imports(SOURCES) - optional == module_names(project()["dependencies"])


def test_only_the_strategies_import_hypothesis() -> None:
    users = [file for file in SOURCES if "hypothesis" in third_party_imports([file])]
    assert users
    assert {file.parent for file in users} == {PACKAGE / "testing" / "strategies"}
    code = """
import sys
sys.modules["hypothesis"] = None  # as if it were not installed
import lowprec, lowprec.testing
print(lowprec.testing.check_format.__name__, "testing" in lowprec.__all__)
try:
    lowprec.testing.strategies
except ImportError as error:
    print(error)
try:
    from lowprec.testing import strategies
except ImportError as error:
    print(error)
"""
    printed, _ = run(code, PACKAGE.parent)
    message = '`hypothesis` must be installed for strategies. Install it with: pip install "lowprec[test]"'
    assert printed.splitlines() == ["check_format False", message, message]


def test_the_extras_for_testing_are_used() -> None:
    used = third_party_imports(sorted((ROOT / "tests").rglob("*.py")))
    if any(option.startswith("--numprocesses") for option in pytest_options()):
        used.add("pytest_xdist")  # a plugin, which nobody imports
    extras = project()["optional-dependencies"]
    assert module_names(extras["test"] + extras["cuda"]) <= used
    optional = extras["test"] + extras["cuda"] + extras["bench"]  # oracles of tests that skip without them
    assert used <= module_names(project()["dependencies"] + optional)


def test_every_declared_dependency_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [pin for pin in pins if re.fullmatch(r"[\w.-]+==[\w.]+", pin)]
    assert [pin for pin in pins if pin not in pinned and not pin.startswith("#")] == []
    for declared in (project()["dependencies"], *project()["optional-dependencies"].values()):
        assert module_names(declared) <= module_names(pinned)
