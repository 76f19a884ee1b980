"""One run: a network, its optimizer, and its place in the data; it can stop after any step.

All that a step depends on is in the state: loaded into a fresh ``Training`` of the same run, it
continues bit for bit.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lowprec
from lowprec.app.data import Dataset
from lowprec.app.settings import Run, Settings
from lowprec.errors import value_error
from lowprec.optim import LowPrecision
from lowprec.record import Moments
from lowprec.scheme import Scheme

RECORD_EVERY = 16
"""Saturation and underflow are counted in one step of so many; that step is not timed."""

_TEST_BATCH_SIZE = 250

Counts = dict[str, list[int]]
"""For each role: elements seen, saturated, underflowed to zero, NaN."""


@dataclass(frozen=True)
class Row:
    """What a run had reached at the end of an epoch."""

    run: Run
    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float
    """A fraction."""
    counts: Counts
    """Of the sampled steps of this epoch."""


def add_counts(rows: Iterable[Counts]) -> Counts:
    """The sum of counts, role by role.

    Args:
        rows: The counts.

    Returns:
        Their sum, with every role that one of them has.

    Example:
        >>> add_counts([{"input": [8, 1, 0, 0]}, {"input": [8, 0, 2, 0], "error": [4, 0, 0, 0]}])
        {'input': [16, 1, 2, 0], 'error': [4, 0, 0, 0]}
    """
    total: Counts = {}
    for counts in rows:
        for role, numbers in counts.items():
            before = total.get(role, [0] * len(numbers))
            total[role] = [a + b for a, b in zip(before, numbers, strict=True)]
    return total


def count_steps(settings: Settings, data: Dataset) -> int:
    """Steps of a run; the last one of each epoch may have fewer images.

    Args:
        settings: Epochs and batch size.
        data: The images.

    Returns:
        How many.

    Example:
        >>> from lowprec.app import data
        >>> count_steps(Settings(epochs=2, batch_size=40), data.load(train_size=100))
        6
    """
    return settings.epochs * -(-len(data.train_labels) // settings.batch_size)


def evaluate(model: nn.Module, data: Dataset) -> tuple[float, float]:
    """Loss and accuracy on the test images, in ``eval()`` mode; the mode it had comes back.

    Args:
        model: Images of shape (N, 1, 28, 28) in, scores of shape (N, 10) out.
        data: The images.

    Returns:
        The mean loss, and the accuracy as a fraction.

    Example:
        >>> from lowprec.app import data, models
        >>> loss, accuracy = evaluate(models.mlp(), data.load())
        >>> 0 <= accuracy <= 1
        True
    """
    training = model.training
    model.eval()
    loss_sum, num_right = 0.0, 0
    with torch.no_grad():
        for images, labels in zip(
            data.test_images.split(_TEST_BATCH_SIZE), data.test_labels.split(_TEST_BATCH_SIZE), strict=True
        ):
            scores = model(images)
            loss_sum += F.cross_entropy(scores, labels, reduction="sum").item()
            num_right += int((scores.argmax(dim=1) == labels).sum())
    model.train(training)
    count = len(data.test_labels)
    return loss_sum / count, num_right / count


class Training:
    """A run under way.

    Args:
        run: Which one.
        settings: Epochs, batch size, learning rate.
        build_model: Makes the network; called after the seed is set.
        scheme: None for plain float32.
        data: The images.

    Example:
        >>> from lowprec.app import data, models
        >>> training = Training(
        ...     Run("float32", 0.9, 0), Settings(batch_size=50), models.mlp, None, data.load()
        ... )
        >>> training.num_steps
        1000
    """

    def __init__(
        self,
        run: Run,
        settings: Settings,
        build_model: Callable[[], nn.Module],
        scheme: Scheme | None,
        data: Dataset,
    ) -> None:
        self.run = run
        self._settings = settings
        self._data = data
        self._steps_per_epoch = count_steps(settings, data) // settings.epochs
        torch.manual_seed(run.seed)
        model = build_model()
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), lr=settings.lr, momentum=run.momentum
        )
        if scheme is not None:
            model, optimizer = lowprec.prepare(model, optimizer, scheme, seed=run.seed)
        self.model = model.train()
        self.optimizer = optimizer
        self.num_steps = count_steps(settings, data)
        self.steps_done = 0
        self.step_seconds: list[float] = []
        self._loss_sum = 0.0
        self._counts: Counts = {}
        self.moments = Moments()
        """What the sampled steps did to each layer and role."""
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done."""
        return self.steps_done == self.num_steps

    def advance(self) -> Row | None:
        """Do one step, and after the last one of an epoch the test.

        Returns:
            What was reached, at the end of an epoch; else None.
        """
        images, labels = self._batch()
        recorded = self.steps_done % RECORD_EVERY == 0
        if recorded and isinstance(self.optimizer, LowPrecision):
            with lowprec.record(self.model, self.optimizer) as recording:
                loss = self._step(images, labels)
            seen = {
                role: [c.count, c.saturated, c.underflowed, c.nan] for role, c in recording.by_role().items()
            }
            self._counts = add_counts((self._counts, seen))
            self.moments.take(self.steps_done, recording.moments)
        else:
            start = time.perf_counter()
            loss = self._step(images, labels)
            if not recorded:
                self.step_seconds.append(time.perf_counter() - start)
        self._loss_sum += loss * len(labels)
        self.steps_done += 1
        return None if self.steps_done % self._steps_per_epoch else self._end_epoch()

    def _step(self, images: Tensor, labels: Tensor) -> float:
        """The usual loop; nothing in it knows of low precision."""
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _batch(self) -> tuple[Tensor, Tensor]:
        """The images of the next step, in the order of this epoch."""
        epoch, step = divmod(self.steps_done, self._steps_per_epoch)
        if self._order[0] != epoch:
            # PyTorch's generator drops the upper half of a 64-bit seed: mix before, not inside
            seed = np.random.SeedSequence((self.run.seed, epoch)).generate_state(1)[0]
            shuffler = torch.Generator().manual_seed(int(seed))
            order = torch.randperm(len(self._data.train_labels), generator=shuffler)
            self._order = (epoch, order)
        size = self._settings.batch_size
        chosen = self._order[1][step * size : (step + 1) * size]
        return self._data.train_images[chosen], self._data.train_labels[chosen]

    def _end_epoch(self) -> Row:
        """Test, and begin the sums of the next epoch."""
        test_loss, test_accuracy = evaluate(self.model, self._data)
        row = Row(
            self.run,
            self.steps_done // self._steps_per_epoch,
            self._loss_sum / len(self._data.train_labels),
            test_loss,
            test_accuracy,
            self._counts,
        )
        self._loss_sum = 0.0
        self._counts = {}
        return row

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, PyTorch's own noise included, and what was counted.

        Returns:
            Tensors and plain values; tensors are not copied.
        """
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "noise": torch.get_rng_state(),
            "steps_done": self.steps_done,
            "step_seconds": self.step_seconds,
            "loss_sum": self._loss_sum,
            "counts": self._counts,
            "moments": self.moments.to_plain(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to the place where ``state_dict`` was called.

        Args:
            state: From the same run.

        Raises:
            ValueError: If it does not fit the model or the optimizer.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            must = f"have a checkpoint that fits the model ({error})"
            remedy = "Start anew, with --out, or restore the model's code."
            raise value_error("--resume", must, self._settings.model, remedy) from error
        torch.set_rng_state(state["noise"])
        self.steps_done = state["steps_done"]
        self.step_seconds = list(state["step_seconds"])
        self._loss_sum = state["loss_sum"]
        self._counts = {role: list(numbers) for role, numbers in state["counts"].items()}
        self.moments = Moments.from_plain(state["moments"])
