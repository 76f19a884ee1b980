"""The bundled subset, IDX folders, and what happens when they are damaged."""

import gzip

import numpy as np
import pytest
import torch

from lowprec.app import data

NAMES = {
    "x": "train-images-idx3-ubyte",
    "y": "train-labels-idx1-ubyte",
    "xt": "t10k-images-idx3-ubyte",
    "yt": "t10k-labels-idx1-ubyte",
}


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as an IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


@pytest.fixture
def arrays():
    """Thirty training and ten test images of noise."""
    rng = np.random.default_rng(5)
    return {
        "x": rng.integers(0, 256, (30, 28, 28), dtype=np.uint8),
        "y": rng.integers(0, 10, 30, dtype=np.uint8),
        "xt": rng.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        "yt": rng.integers(0, 10, 10, dtype=np.uint8),
    }


@pytest.fixture
def folder(tmp_path, arrays):
    """They as four IDX files."""
    for key, name in NAMES.items():
        (tmp_path / name).write_bytes(idx(arrays[key]))
    return tmp_path


def test_the_bundled_subset_has_its_images_and_labels():
    loaded = data.load()
    assert loaded.train_images.shape == (10_000, 1, 28, 28)
    assert loaded.test_images.shape == (2_000, 1, 28, 28)
    assert loaded.train_images.dtype == torch.float32
    assert loaded.train_labels.dtype == torch.int64
    assert torch.bincount(loaded.train_labels).tolist() == [
        942, 1027, 1016, 1019, 974, 989, 1021, 1022, 990, 1000,
    ]  # fmt: skip
    assert loaded.train_images.double().mean().abs() < 1e-6
    assert (loaded.train_images.double().std() - 1).abs() < 1e-6


def test_a_damaged_bundled_file_is_refused(monkeypatch, tmp_path):
    original = (data.resources.files("lowprec.app") / "datasets" / data.BUNDLED).read_bytes()
    place = tmp_path / "datasets"
    place.mkdir()
    monkeypatch.setattr(data.resources, "files", lambda package: tmp_path)
    (place / data.BUNDLED).write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"_12k\.npz is damaged \(SHA-256 .*, got None\. Or reinst"):
        data.load()
    (place / data.BUNDLED).unlink()
    with pytest.raises(FileNotFoundError, match=r"where the bundled file .* is missing, got None\. Or"):
        data.load()


def test_a_part_of_the_training_images_is_the_first_ones():
    whole, part = data.load(), data.load(train_size=100)
    assert torch.equal(part.train_labels, whole.train_labels[:100])
    assert len(part.test_labels) == 2_000
    assert part.fingerprint != whole.fingerprint
    with pytest.raises(ValueError, match=r"`--train-size` must be at most the 10000 images, got 1"):
        data.load(train_size=10_001)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_idx_folder_is_read(folder, arrays, compressed):
    if compressed:
        for name in NAMES.values():
            plain = folder / name
            (folder / f"{name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
    loaded = data.load(str(folder))
    assert loaded.train_labels.tolist() == arrays["y"].tolist()
    assert loaded.test_labels.tolist() == arrays["yt"].tolist()
    mean, deviation = arrays["x"].mean(), arrays["x"].std()
    expected = (torch.from_numpy(arrays["xt"]).double() - mean) / deviation
    # one rounding to float32 of numbers below 2
    assert (loaded.test_images[:, 0].double() - expected).abs().max() < 2**-23
    assert loaded.name == folder.name


def test_a_missing_folder_or_file_is_named(folder):
    with pytest.raises(FileNotFoundError, match="`--data` must be a folder, got 'nowhere'"):
        data.load("nowhere")
    (folder / NAMES["yt"]).unlink()
    with pytest.raises(FileNotFoundError, match=r"folder that holds t10k-labels-idx1-ubyte or .*\.gz, got"):
        data.load(str(folder))


def cut(content: bytes) -> bytes:
    return content[:-1]


def lengthened(content: bytes) -> bytes:
    return content + b"\0"


def other_type(content: bytes) -> bytes:
    return content[:2] + b"\x0d" + content[3:]


def header_cut(content: bytes) -> bytes:
    return content[:9]


def other_height(content: bytes) -> bytes:
    return content[:11] + b"\x1d" + content[12:]


def empty(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (cut, "fewer than the 23520 bytes"),
        (lengthened, "more than the 23520 bytes"),
        (other_type, "does not begin like IDX bytes with 3 axes"),
        (header_cut, "it ends within its header"),
        (other_height, r"items have shape \[29, 28\], not \[28, 28\]"),
        (empty, "does not begin like IDX"),
    ],
)
def test_a_damaged_idx_file_is_named(folder, damage, why):
    path = folder / NAMES["x"]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"`--data` must hold undamaged IDX files .*{why}.*, got .*x3-ubyte"):
        data.load(str(folder))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_that_promises_more_than_memory_is_refused(folder, compressed):
    path = folder / NAMES["x"]
    content = path.read_bytes()
    content = content[:4] + (2**31).to_bytes(4, "big") + content[8:]
    path.write_bytes(content)
    if compressed:
        path.unlink()
        path = folder / f"{path.name}.gz"
        path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=f"fewer than the {2**31 * 784} bytes .*, got .*{path.name}"):
        data.load(str(folder))


@pytest.mark.parametrize("damage", [cut, lambda content: b"no gzip", lambda c: c[:40] + c[41:]])
def test_a_damaged_compressed_file_is_named(folder, damage):
    path = folder / NAMES["x"]
    damaged = folder / f"{path.name}.gz"
    damaged.write_bytes(damage(gzip.compress(path.read_bytes())))
    path.unlink()
    with pytest.raises(ValueError, match=r"cannot be decompressed.*, got .*idx3-ubyte\.gz"):
        data.load(str(folder))


def test_labels_must_fit_the_images(folder, arrays):
    path = folder / NAMES["y"]
    path.write_bytes(idx(arrays["y"][:-1]))
    with pytest.raises(ValueError, match=r"it has 29 labels for 30 images\), got .*train-labels"):
        data.load(str(folder))
    arrays["y"][3] = 10
    path.write_bytes(idx(arrays["y"]))
    with pytest.raises(ValueError, match=r"between 0 and 9, one is 10\), got .*train-labels"):
        data.load(str(folder))


def test_images_must_be_there_and_differ(folder, arrays):
    for key in ("xt", "yt"):
        (folder / NAMES[key]).write_bytes(idx(arrays[key][:0]))
    with pytest.raises(ValueError, match=r"it holds no images\), got .*t10k-images"):
        data.load(str(folder))
    for key in ("xt", "yt"):
        (folder / NAMES[key]).write_bytes(idx(arrays[key]))
    (folder / NAMES["x"]).write_bytes(idx(np.full((30, 28, 28), 7, np.uint8)))
    with pytest.raises(ValueError, match="`images` must differ in at least one pixel, got"):
        data.load(str(folder))
