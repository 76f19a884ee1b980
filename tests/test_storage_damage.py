"""load_packed of files that are damaged, cut, of another kind, or contradict themselves."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from oracle import assert_same
from torch import Tensor

from lowprec import load_packed, save_packed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


X = torch.ones(4)
SMALL = {
    "w": torch.linspace(-9, 9, 120).view(3, 40),
    "tied": torch.empty(0),
    "n": torch.arange(3),
    "f": torch.linspace(-3, 3, 5),
    "wide": torch.linspace(-50, 50, 3),
}
SMALL["tied"] = SMALL["w"]
POLICY = {"w": "mxfp4", "tied": "mxfp4", "f": "fixed5f2", "wide": "fixed18f9"}


def check_damage(path: Path, content: bytes, want: dict[str, Tensor]) -> bool:
    """Whether a file that is not as it was is refused; if not, it is understood as before."""
    path.write_bytes(content)
    try:
        loaded = load_packed(path)
    except ValueError as error:
        if "model.safetensors" not in str(error):
            raise
        return True
    assert list(loaded) == list(want)
    for name, x in loaded.items():
        assert_same(x, want[name])
    return False


class TestDamage:
    def test_every_flipped_byte(self, path: Path) -> None:
        save_packed(SMALL, path, POLICY)
        want, content, source = load_packed(path), path.read_bytes(), random.Random(5)
        refused = 0
        for at in range(len(content)):
            for bit in (0, source.randrange(1, 8)):
                damaged = bytearray(content)
                damaged[at] ^= 1 << bit
                refused += check_damage(path, bytes(damaged), want)
        assert refused > 1.9 * len(content)

    def test_many_flipped_bytes(self, path: Path) -> None:
        save_packed(SMALL, path, POLICY)
        want, content, source = load_packed(path), path.read_bytes(), random.Random(6)
        for _ in range(500):
            damaged = bytearray(content)
            for _ in range(source.randint(2, 9)):
                damaged[source.randrange(len(content))] = source.randrange(256)
            check_damage(path, bytes(damaged), want)

    def test_every_cut_and_every_addition(self, path: Path) -> None:
        save_packed(SMALL, path, POLICY)
        content = path.read_bytes()
        for length in range(len(content)):
            assert check_damage(path, content[:length], {})
        for more in (b"\0", b" ", content):
            assert check_damage(path, content + more, {})

    def test_other_files(self, path: Path) -> None:
        for content in (b"", b"PK\3\4", b"{}", bytes(100), b"\2" + bytes(7) + b"{}"):
            assert check_damage(path, content, {})
        path.write_bytes(b"PK\3\4")
        with pytest.raises(ValueError, match=r"`path` must be a whole safetensors file \(.*\), got .*again"):
            load_packed(path)
        safetensors.torch.save_file({"x": X}, path)
        with pytest.raises(
            ValueError, match=r"`path` must be a file of lowprec.save_packed, got .*load_file"
        ):
            load_packed(path)
        with pytest.raises(FileNotFoundError, match=r"must name a file that exists, got .*absent\.safe"):
            load_packed(path.with_name("absent.safetensors"))

    def test_a_flipped_code_names_the_tensor(self, path: Path) -> None:
        save_packed({"w": SMALL["w"]}, path, "e4m3fn")
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        message = r"'w' undamaged \(`sha256` must be .*, got .*\), got .*model.safetensors.*again"
        with pytest.raises(ValueError, match=message):
            load_packed(path)


def forge(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> None:
    """Write a changed file whose sums are right."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    described = json.loads(header["__metadata__"]["lowprec"])
    arrays = safetensors.torch.load(content)
    change(described, arrays)
    for name, entry in described["tensors"].items() if isinstance(described["tensors"], dict) else ():
        if isinstance(entry, dict) and "same_as" not in entry:
            keys = [name, f"{name}:codes", *([f"{name}:scales0"] if entry.get("scales") else [])]
            raw = [
                arrays[key].reshape(-1).view(torch.uint8).numpy().tobytes() for key in keys if key in arrays
            ]
            entry["sha256"] = hashlib.sha256(b"".join(raw)).hexdigest()
    text = json.dumps(described)
    metadata = {"lowprec": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    safetensors.torch.save_file(arrays, path, metadata)


def setting(name: str, key: str, value: Any) -> Callable[..., None]:
    """A change to what the metadata says of a tensor."""
    return lambda described, arrays: described["tensors"][name].update({key: value})


def replacing(key: str, change: Callable[[Tensor], Tensor]) -> Callable[..., None]:
    """A change to one of the file's tensors."""
    return lambda described, arrays: arrays.update({key: change(arrays[key])})


FORGED: dict[str, tuple[Callable[..., Any], str]] = {
    "version": (lambda d, _: d.update(version=2), r"must have layout 1 \(2 is another\).* the version of l"),
    "no version": (lambda d, _: d.pop("version"), r"must have metadata of lowprec.save_packed \('version'\)"),
    "no tensors": (lambda d, _: d.update(tensors=3), "must have metadata of lowprec.save_packed"),
    "no entry": (lambda d, _: d["tensors"].pop("n"), r"must hold no tensors but those it lists \(n\)"),
    "no tensor": (lambda _, a: a.pop("w:codes"), "'w' undamaged .*`tensors` must include 'w:codes'"),
    "no scales": (lambda _, a: a.pop("w:scales0"), "'w' undamaged .*`tensors` must include 'w:scales0'"),
    "entry": (lambda d, _: d["tensors"].update(n="n"), "'n' undamaged .*`entry` must be an object, got 'n'"),
    "tie": (setting("tied", "same_as", "later"), r"'tied' undamaged \('later'\)"),
    "format": (setting("w", "format", "mxfp5"), "'w' undamaged .*`format` must be a known name, got 'mxfp5'"),
    "type of format": (setting("w", "format", 4), "'w' undamaged .*`name` must be a string, got 4"),
    "wider": (setting("w", "format", "mxfp8_e4m3"), "'w' undamaged .*`packed` must have 120 bytes"),
    "no groups": (setting("w", "format", "e2m1"), "'w' undamaged .*must be"),
    "groups": (setting("w", "scales", []), "'w' undamaged .*`scales` must be given"),
    "scales": (setting("w", "scales", 1), "'w' undamaged"),
    "dtype": (setting("w", "dtype", "float33"), "'w' undamaged .*`dtype` must be the name of a torch dtype"),
    "carrier": (setting("w", "dtype", "int8"), "'w' undamaged .* must be one of torch.float32"),
    "shape": (setting("w", "shape", [3, 41]), "'w' undamaged .*`packed` must have 62 bytes"),
    "no shape": (setting("w", "shape", None), "'w' undamaged"),
    "great shape": (setting("w", "shape", [0, 1 << 90]), "'w' undamaged"),
    "other dtype": (setting("n", "dtype", "float64"), "'n' undamaged .*`shape` must be .* of torch.fl"),
    "other shape": (setting("n", "shape", [1, 3]), r"'n' undamaged .*`shape` must be \(1, 3\) of torch"),
    "code": (replacing("wide:codes", lambda x: x.int().add(1 << 18).to(torch.uint32)),
             r"'wide' undamaged .*`codes` must lie below 2\^18"),
    "dtype of codes": (replacing("wide:codes", lambda x: x.to(torch.uint64)), "'wide' undamaged .*`codes`"),
    "padding": (replacing("f:codes", lambda x: x | 128), "'f' undamaged .*`packed` must have a last byte"),
    "few codes": (replacing("f:codes", lambda x: x[1:].clone()), "'f' undamaged .*`packed` must have 4 b"),
    "few scales": (replacing("w:scales0", lambda x: x[1:].clone()), "'w' undamaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_a_file_that_contradicts_itself(case: str, path: Path) -> None:
    change, message = FORGED[case]
    save_packed(SMALL, path, POLICY)
    forge(path, change)
    with pytest.raises(ValueError, match=f"`path` .*{message}") as caught:
        load_packed(path)
    assert "model.safetensors" in str(caught.value)


def test_a_forged_file_is_read_where_nothing_is_wrong(path: Path) -> None:
    """Else the test above could not fail."""
    save_packed(SMALL, path, POLICY)
    want = load_packed(path)
    forge(path, lambda described, arrays: None)
    for name, x in load_packed(path).items():
        assert_same(x, want[name])


def test_deep_metadata_is_no_more_than_an_error(path: Path) -> None:
    text = "[" * 100_000
    metadata = {"lowprec": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    safetensors.torch.save_file({"x": X}, path, metadata)
    with pytest.raises(ValueError, match=r"`path` must have metadata of lowprec.save_packed"):
        load_packed(path)
