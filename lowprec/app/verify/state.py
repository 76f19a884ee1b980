"""What an interrupted verification has finished, on disk; a state of other code is never used."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import lowprec
from lowprec.app import checkpoint, environment
from lowprec.app.verify.claim import Part
from lowprec.app.verify.comparison import Outcome
from lowprec.errors import value_error

FOLDER = Path("runs") / "verify"
"""Where the state lies until the verification is over."""


_FILE = "state.json"


class Finding(NamedTuple):
    """A finished part."""

    part: Part
    outcome: Outcome
    seconds: float


def identity() -> dict[str, str]:
    """What a result depends on: every source of the package, and what compiles and runs it.

    Returns:
        A short text for each name.

    Example:
        >>> identity()["lowprec"] == lowprec.__version__
        True
    """
    digest = hashlib.sha256()
    package = Path(lowprec.__file__).parent
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode())
        digest.update(file.read_bytes())
    names = ("lowprec", "kernel sources", "python", "torch", "numba", "numpy", "system", "processor", "cores")
    known = environment.described()
    return {**{name: known[name] for name in names}, "package sources": digest.hexdigest()[:12]}


class State:
    """The finished parts of one verification, in a file that is whole after every part."""

    def __init__(self, folder: Path, parts: dict[str, dict[str, Any]] | None = None) -> None:
        self._file, self._parts = folder / _FILE, parts or {}
        self.identity = identity()

    @classmethod
    def resumed(cls, folder: Path) -> "State":
        """Go on with the state of a folder.

        Args:
            folder: Where an interrupted verification left it.

        Returns:
            The state.

        Raises:
            ValueError: If there is none, it is damaged, or it was left by other code.
        """
        file = folder / _FILE
        must, remedy = "follow an interrupted verification", "Leave it out to verify from the start."
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            known, parts = stored["identity"], stored["parts"]
        except FileNotFoundError:
            raise value_error("--resume", f"{must} in this folder", str(file), remedy) from None
        except (ValueError, KeyError, TypeError):
            raise value_error("--resume", f"{must} whose state is whole", str(file), remedy) from None
        now = identity()
        changed = [name for name in now if known.get(name) != now[name]]
        if changed:
            raise value_error("--resume", f"{must} of the same {', '.join(changed)}", str(file), remedy)
        return cls(folder, parts)

    @staticmethod
    def is_left_in(folder: Path) -> bool:
        """Whether an interrupted verification left something to go on with."""
        return (folder / _FILE).exists()

    def __len__(self) -> int:
        """How many parts are finished."""
        return len(self._parts)

    def finding(self, part: Part) -> Finding | None:
        """What was found about a part before, if it was finished."""
        stored = self._parts.get(part.key)
        if stored is None:
            return None
        return Finding(part, Outcome.from_dict(stored["outcome"]), stored["seconds"])

    def record(self, finding: Finding) -> None:
        """Add a finished part, and write the file.

        Args:
            finding: The part, and what was found.

        Raises:
            OSError: If it cannot be written; the file of before is untouched.
        """
        self._parts[finding.part.key] = {
            "outcome": finding.outcome.to_dict(),
            "seconds": round(finding.seconds, 3),
        }
        text = json.dumps({"identity": self.identity, "parts": self._parts})
        checkpoint.write(self._file, text.encode())

    def forget(self) -> None:
        """Remove the file: the verification is over."""
        self._file.unlink(missing_ok=True)
