"""The images that ``lowprec train`` learns: the bundled subset, or a folder of IDX files.

Everything is checked before a single image is used: a file that is damaged, truncated or of another
kind is a ValueError that names it.
"""

import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.errors import sentence, value_error

NUM_CLASSES = 10
IMAGE_SHAPE = (28, 28)

BUNDLED = "fashion_mnist_12k.npz"
_BUNDLED_SHA256 = "8489ebc99d6ccb7e871a9109d83b06f1bed490cbfc8523fa0cb16a799258dde0"
_IDX_FILES = {
    "x": "train-images-idx3-ubyte",
    "y": "train-labels-idx1-ubyte",
    "xt": "t10k-images-idx3-ubyte",
    "yt": "t10k-labels-idx1-ubyte",
}
_IDX_UINT8 = 0x08
_PIECE = 2**20
_REINSTALL = "Or reinstall lowprec."

Arrays = dict[str, npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Dataset:
    """Training and test images, standardized, whole in memory."""

    name: str
    train_images: Tensor
    """float32, (N, 1, 28, 28); mean 0 and standard deviation 1 over all training pixels."""
    train_labels: Tensor
    """int64, (N,)."""
    test_images: Tensor
    """Standardized with the mean and deviation of the training images."""
    test_labels: Tensor
    fingerprint: str
    """SHA-256 of the pixels and labels in use."""


def load(folder: str | None = None, train_size: int | None = None) -> Dataset:
    """The images to train on and to test on.

    Args:
        folder: Where the four IDX files of MNIST or Fashion-MNIST lie, plain or with ``.gz`` (the
            plain file is read where both exist); None for the bundled subset of Fashion-MNIST.
        train_size: Use only the first so many training images; None for all.

    Returns:
        The images and labels.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or holds something else, or there are fewer than
            ``train_size`` training images.

    Example:
        >>> load(train_size=100).train_images.shape
        torch.Size([100, 1, 28, 28])
    """
    arrays = _read_bundled() if folder is None else _read_folder(Path(folder))
    available = len(arrays["y"])
    if train_size is not None:
        if train_size > available:
            raise value_error("--train-size", f"be at most the {available} images", train_size)
        arrays = arrays | {"x": arrays["x"][:train_size], "y": arrays["y"][:train_size]}
    digest = hashlib.sha256()
    for key in _IDX_FILES:
        digest.update(np.ascontiguousarray(arrays[key]).data)
    mean, deviation = _moments(arrays["x"])
    if deviation == 0.0:
        where = "the training images" if folder is None else str(folder)
        raise value_error("images", "differ in at least one pixel", where)
    return Dataset(
        name=name_of(folder),
        train_images=_standardized(arrays["x"], mean, deviation),
        train_labels=torch.from_numpy(arrays["y"].astype(np.int64)),
        test_images=_standardized(arrays["xt"], mean, deviation),
        test_labels=torch.from_numpy(arrays["yt"].astype(np.int64)),
        fingerprint=digest.hexdigest(),
    )


def name_of(folder: str | None) -> str:
    """What the images of a folder are called, or the bundled ones of None.

    Args:
        folder: As ``load`` takes it.

    Returns:
        The name.

    Example:
        >>> name_of(None)
        'Fashion-MNIST subset'
    """
    return "Fashion-MNIST subset" if folder is None else Path(folder).name


def _moments(images: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of all pixels, from exact integer sums."""
    histogram = np.bincount(images.ravel(), minlength=256)
    levels = np.arange(256)
    count, total = images.size, int(histogram @ levels)
    squares = int(histogram @ levels**2)
    return total / count, math.sqrt((squares * count - total * total) / count**2)


def _standardized(images: npt.NDArray[np.uint8], mean: float, deviation: float) -> Tensor:
    """The images as float32 with one channel."""
    levels = (np.arange(256) - mean) / deviation
    return torch.from_numpy(levels.astype(np.float32)[images][:, np.newaxis])


def _read_bundled() -> Arrays:
    """The subset that comes with the package, checked against its SHA-256."""
    file = resources.files("lowprec.app") / "datasets" / BUNDLED
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        must = f"be a folder where the bundled file {file} is missing"
        raise FileNotFoundError(sentence("--data", must, None, _REINSTALL)) from None
    found = hashlib.sha256(content).hexdigest()
    if found != _BUNDLED_SHA256:
        must = f"be a folder where the bundled file {file} is damaged (SHA-256 {found[:16]}…)"
        raise value_error("--data", must, None, _REINSTALL)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _read_folder(folder: Path) -> Arrays:
    """The four IDX files of a folder, checked one by one and against each other."""
    if not folder.is_dir():
        raise FileNotFoundError(sentence("--data", "be a folder", str(folder)))
    paths = {key: _find(folder, name) for key, name in _IDX_FILES.items()}
    arrays = {key: _read_idx(path, IMAGE_SHAPE if key in ("x", "xt") else ()) for key, path in paths.items()}
    for images, labels in (("x", "y"), ("xt", "yt")):
        count = len(arrays[images])
        if len(arrays[labels]) != count:
            raise _bad_file(paths[labels], f"it has {len(arrays[labels])} labels for {count} images")
        if count == 0:
            raise _bad_file(paths[images], "it holds no images")
        largest = int(arrays[labels].max())
        if largest >= NUM_CLASSES:
            raise _bad_file(paths[labels], f"its labels must lie between 0 and 9, one is {largest}")
    return arrays


def _find(folder: Path, name: str) -> Path:
    """The file of that name, plain or compressed."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(sentence("--data", f"be a folder that holds {name} or {name}.gz", str(folder)))


def _read_idx(path: Path, item_shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """An IDX file of bytes: two zeros, type, number of axes, big-endian sizes, then the items."""
    opening: Callable[[Path, str], Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opening(path, "rb") as file:
            num_axes = 1 + len(item_shape)
            head = file.read(4 + 4 * num_axes)
            if head[:4] != bytes((0, 0, _IDX_UINT8, num_axes)):
                raise _bad_file(path, f"it does not begin like IDX bytes with {num_axes} axes")
            if len(head) < 4 + 4 * num_axes:
                raise _bad_file(path, "it ends within its header")
            sizes = np.frombuffer(head[4:], dtype=">u4").tolist()
            if tuple(sizes[1:]) != item_shape:
                raise _bad_file(path, f"its items have shape {sizes[1:]}, not {list(item_shape)}")
            expected = math.prod(sizes)
            content = _read_at_most(file, expected + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _bad_file(path, f"it cannot be decompressed ({error})") from None
    if len(content) != expected:
        less = "fewer" if len(content) < expected else "more"
        raise _bad_file(path, f"it holds {less} than the {expected} bytes that its header promises")
    return np.frombuffer(content, dtype=np.uint8).reshape(sizes)


def _read_at_most(file: Any, size: int) -> bytearray:
    """So many bytes, or all there are, in memory for what is there and not for what is asked."""
    content = bytearray()
    while piece := file.read(min(_PIECE, size - len(content))):
        content += piece
    return content


def _bad_file(path: Path, why: str) -> ValueError:
    """The error for a data file that cannot be used."""
    must = f"hold undamaged IDX files of images like MNIST's ({why})"
    return value_error("--data", must, str(path), "Copy or download the file again.")
