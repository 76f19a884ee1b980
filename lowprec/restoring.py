"""What runs a user's code on a user's model, and leaves no trace: modules and random state."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextmanager
def same_model(model: torch.nn.Module) -> Iterator[None]:
    """Put a model back as it was when the block ends, however it ends.

    That is every attribute of every module (its class, parameters, buffers, training flag, hooks), the
    contents of its tensors and of plain containers among its attributes, and the parameters' gradients,
    whose memory is left alone: inside the block they are None.

    Args:
        model: Any module.

    Yields:
        Nothing.

    Example:
        >>> model = torch.nn.BatchNorm1d(2)
        >>> with same_model(model):
        ...     _ = model(torch.ones(3, 2))
        >>> int(model.num_batches_tracked)
        0
    """
    modules = [(module, type(module), dict(module.__dict__)) for module in model.modules()]
    values: list[Any] = [value for _, _, attributes in modules for value in attributes.values()]
    containers = [(value, value.copy()) for value in values if isinstance(value, dict | list | set)]
    parts: list[Any] = []
    for held, _ in containers:
        parts += held.values() if isinstance(held, dict) else held
    tensors = list({id(t): t for t in [*values, *parts] if isinstance(t, Tensor)}.values())
    memories = [(tensor, tensor.data, tensor.detach().clone()) for tensor in tensors]
    leaves = [(t, t.grad, t.requires_grad) for t in tensors if t.is_leaf]
    for leaf, _, _ in leaves:
        leaf.grad = None
    try:
        yield
    finally:
        for module, own_class, attributes in modules:
            module.__class__ = own_class
            module.__dict__.clear()
            module.__dict__.update(attributes)
        for container, members in containers:
            _refill(container, members)
        for tensor, memory, content in memories:
            _rewrite(tensor, memory, content)
        for leaf, gradient, required in leaves:
            leaf.grad = gradient
            leaf.requires_grad_(required)


def _rewrite(tensor: Tensor, memory: Tensor, content: Tensor) -> None:
    """Give a tensor the memory that it had, and that its content."""
    if (tensor.dtype, tensor.shape, tensor.device) != (memory.dtype, memory.shape, memory.device) or (
        not tensor.is_meta and tensor.data_ptr() != memory.data_ptr()
    ):
        tensor.data = memory
    if not tensor.is_meta and not torch.equal(memory, content):
        with torch.no_grad():
            tensor.copy_(content)


def _refill(container: Any, content: Any) -> None:
    """Give a container the content that it had."""
    container.clear()
    container.extend(content) if isinstance(container, list) else container.update(content)


@contextmanager
def same_random_state(seed: int | None = None) -> Iterator[None]:
    """Put the global random state of torch, NumPy and Python back when the block ends.

    Args:
        seed: With which all of them begin inside the block; None to go on as they are.

    Yields:
        Nothing.

    Example:
        >>> before = torch.get_rng_state()
        >>> with same_random_state():
        ...     _ = torch.rand(1)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # what users' code may use
    try:
        with torch.random.fork_rng(devices):
            if seed is not None:
                torch.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
