"""Recording: what a record block has counted, and every way to look at it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowprec.errors import type_error, value_error
from lowprec.files import write
from lowprec.record import heat_map as pictures
from lowprec.record import tables
from lowprec.record.breaks import Break, first_break, not_finite_in
from lowprec.record.counters import Counters, Histogram, added
from lowprec.record.grid import Grid, grid_of
from lowprec.record.moments import Key, Moments, Numbers
from lowprec.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_VERSION = 1


class Recording:
    """What one ``record`` block has counted, for each (layer or parameter name, role) and step.

    A notebook shows its table. Layers come in the order of the model.

    Example:
        >>> import torch, lowprec
        >>> model = lowprec.convert(torch.nn.Sequential(torch.nn.Linear(2, 2)), "fp8-hybrid")
        >>> with lowprec.record(model) as recording:
        ...     for size in (1.0, 1000.0):
        ...         _ = model(torch.full((1, 2), size))
        >>> recording.steps
        ((0, 0), (1, 1))
        >>> print(recording.first_break(saturation=0.5))
        step 1: saturation (100 %) in the input of 0
    """

    def __init__(self, order: Sequence[str] = ()) -> None:
        self._order = tuple(order)
        self._moments = Moments()
        self._histograms: dict[Key, list[Histogram]] = {}
        self._step, self._is_new = 0, True
        self._not_finite: Break | None = None

    def begin(self, step: int) -> None:
        """What comes belongs to this step."""
        self._step, self._is_new = step, True

    def add(
        self, key: Key, numbers: Numbers, exponents: Mapping[int, int], scales: Mapping[int, int]
    ) -> None:
        """Count one quantization."""
        if self._is_new:  # a step in which nothing is rounded makes no moment
            self._moments.begin(self._step)
            self._is_new = False
        self._moments.add(key, numbers)
        before = self._histograms.get(key, [(), ()])
        given = (tuple(exponents.items()), tuple(scales.items()))
        self._histograms[key] = [added(old, new) for old, new in zip(before, given, strict=True)]
        if self._not_finite is None:
            self._not_finite = not_finite_in(self._step, key, numbers)

    @property
    def moments(self) -> Moments:
        """What was counted, moment by moment."""
        return self._moments

    @property
    def steps(self) -> tuple[tuple[int, int], ...]:
        """The first and the last step of each moment that was kept."""
        return tuple((moment.first_step, moment.last_step) for moment in self._moments)

    @property
    def counters(self) -> dict[tuple[str, str], Counters]:
        """Counters for each (layer name, role) over all steps; parameters stand by their own names."""
        totals: dict[Key, Counters] = {}
        for moment in self._moments:
            for key, counters in moment.counters().items():
                totals[key] = totals.get(key, Counters()) + counters
        return {
            key: replace(counters, exponents=self._histograms[key][0], scales=self._histograms[key][1])
            for key, counters in totals.items()
        }

    def by_role(self) -> dict[str, Counters]:
        """Counters for each role, over all layers and steps.

        Returns:
            A mapping from roles.

        Example:
            >>> Recording().by_role()
            {}
        """
        totals: dict[str, Counters] = {}
        for (_, role), counters in self.counters.items():
            totals[role] = totals.get(role, Counters()) + counters
        return totals

    def table(self) -> Table:
        """What became of the elements of each layer and role, over all steps.

        Returns:
            A Table of fractions, the SQNR in dB, the least and the largest exponent of what came in, and of
            scales, and for what an optimizer keeps the share of its updates that rounding threw away.

        Example:
            >>> Recording().table().columns[:4]
            ('layer', 'role', 'count', 'saturated')
        """
        return tables.of_layers(self._sorted(self.counters), self.steps)

    def exponents(self, role: str | None = None, layer: str | None = None) -> Table:
        """How many inputs, and how many scales of groups, lie in each binade.

        Args:
            role: Of this role; None for all.
            layer: Of this layer or parameter; None for all.

        Returns:
            A Table with, for each exponent e, the finite non-zero elements in [2^e, 2^(e + 1)) before
            rounding, and the groups whose scale lies there. Zeros, infinities and NaN stand in the caption.

        Raises:
            ValueError: If nothing was recorded of that role or layer.

        Example:
            >>> Recording().exponents().columns
            ('exponent', 'elements', 'scales')
        """
        return tables.of_exponents(self.counters, role, layer)

    def steps_table(self) -> Table:
        """What was counted, moment by moment, layer by layer, role by role.

        Returns:
            A Table with a row for each; the SQNR in dB is None where there is none.

        Example:
            >>> len(Recording().steps_table())
            0
        """
        moments = (
            (moment.first_step, moment.last_step, self._sorted(moment.counters())) for moment in self._moments
        )
        return tables.of_moments(moments)

    def first_break(self, *, saturation: float = 0.1) -> Break | None:
        """Where the run broke: the first NaN, infinity or strong saturation, in the order of computing.

        A NaN or infinity counts where it is a result, and where it was given and the format saturated it
        away. Saturation alone need not be a fault: under the scale rule ``floor`` a group of MX saturates
        whenever its largest element lies above the element format's largest value times the scale, and
        narrow formats are often set to cut off the tails, so that healthy runs may pass a tenth. Raise
        ``saturation`` above the share that the sentence names to look past it, or pass 1.0 for NaN and
        infinities alone.

        Args:
            saturation: The fraction of saturated elements of a layer and role in one moment that counts as
                broken; 1.0 for none.

        Returns:
            Step, layer and role; None if all went well. Where moments have been merged, the step of
            saturation is known as well as these are; that of NaN and infinities always exactly.

        Raises:
            TypeError: If ``saturation`` is no number.
            ValueError: If it does not lie between 0 and 1.

        Example:
            >>> Recording().first_break() is None
            True
        """
        if isinstance(saturation, bool) or not isinstance(saturation, int | float):
            raise type_error("saturation", "be a number", saturation)
        if not 0.0 <= saturation <= 1.0:
            raise value_error("saturation", "lie between 0 and 1", saturation)
        return first_break(self._moments, self._not_finite, saturation)

    def heat_map(
        self, quantity: str = "saturation", role: str | None = None, ax: "Axes | None" = None
    ) -> "Axes":
        """Draw layers down and steps across, which shows where a run broke.

        Lighter is worse. A cell in which something was NaN or infinite, before or after rounding, has
        another color and a cross.

        Args:
            quantity: ``"saturation"``, ``"underflow"``, ``"nan"``, ``"infinite"``, ``"sqnr"``,
                ``"stalled"`` or ``"update_lost"``.
            role: Of this role; None for the worst over all roles of a layer.
            ax: Matplotlib's axes; None for new ones.

        Returns:
            The axes.

        Raises:
            TypeError: If ``ax`` is neither.
            ValueError: If there is no such quantity or role, or nothing was recorded.

        Example:
            >>> Recording().heat_map("sqnr")
            Traceback (most recent call last):
            ValueError: `recording` must hold a step in which something was rounded, got 'none'.
        """
        return pictures.draw(self.grid(quantity, role), ax)

    def heat_text(self, quantity: str = "saturation", role: str | None = None) -> str:
        """The heat map for a terminal: a fuller block is worse, × is NaN or infinity.

        Args:
            quantity: As in ``heat_map``.
            role: As in ``heat_map``.

        Returns:
            A line for each layer, with what it means above and below.

        Raises:
            ValueError: As ``heat_map``.

        Example:
            >>> import torch, lowprec
            >>> model = lowprec.convert(torch.nn.Sequential(torch.nn.Linear(2, 2)), "fp8-hybrid")
            >>> with lowprec.record(model) as recording:
            ...     for size in (1.0, 1000.0):
            ...         _ = model(torch.full((1, 2), size))
            >>> print(recording.heat_text().splitlines()[1])
            0  █
        """
        return pictures.text(self.grid(quantity, role))

    def grid(self, quantity: str = "saturation", role: str | None = None) -> Grid:
        """The numbers behind ``heat_map``.

        Args:
            quantity: As in ``heat_map``.
            role: As in ``heat_map``.

        Returns:
            Layers, edges in steps, values, and which cells have NaN or infinities.

        Raises:
            ValueError: As ``heat_map``.
        """
        return grid_of(self._moments, self._order, quantity, role)

    def to_csv(self, path: str | Path | None = None) -> str:
        """What was counted moment by moment, as CSV.

        Args:
            path: Where to write it, whole or not at all; None for nowhere.

        Returns:
            The text, ``steps_table`` with numbers in full.

        Raises:
            OSError: If it cannot be written.

        Example:
            >>> Recording().to_csv()[:20]
            'first_step,last_step'
        """
        return _written(self.steps_table().to_csv(), path)

    def to_json(self, path: str | Path | None = None) -> str:
        """All that was counted, histograms too, as JSON that ``from_json`` reads back.

        Args:
            path: Where to write it, whole or not at all; None for nowhere.

        Returns:
            The text. Sums that float64 does not hold are written as Infinity and NaN, as Python does.

        Raises:
            OSError: If it cannot be written.

        Example:
            >>> Recording.from_json(Recording().to_json()).counters
            {}
        """
        content = {
            "lowprec recording": _VERSION,
            "order": self._order,
            "moments": self._moments.to_plain(),
            "histograms": [[*key, *own] for key, own in self._histograms.items()],
            "not_finite": vars(self._not_finite) if self._not_finite else None,
        }
        return _written(json.dumps(content) + "\n", path)

    @classmethod
    def from_json(cls, text: str | Path) -> "Recording":
        """A recording out of what ``to_json`` gave.

        Args:
            text: The text, or a file as a ``pathlib.Path``; a string is never taken for a file's name.

        Returns:
            A recording that answers as the one that was written.

        Raises:
            OSError: If the file cannot be read.
            TypeError: If it is neither.
            ValueError: If it is no JSON, or was not written by this version.

        Example:
            >>> Recording.from_json("{}")  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ValueError: `text` must be what to_json of this version gave, got '{}'. Reading it ...
        """
        if not isinstance(text, str | Path):
            raise type_error("text", "be a string of JSON or a pathlib.Path", type(text))
        shown = text[:40] if isinstance(text, str) else str(text)
        try:
            content: Any = json.loads(text if isinstance(text, str) else text.read_text(encoding="utf-8"))
        except ValueError as error:
            remedy = "Give the name of a file as a pathlib.Path."
            raise value_error("text", "be JSON that to_json has written", shown, remedy) from error
        try:
            if content["lowprec recording"] != _VERSION:
                raise value_error("lowprec recording", f"be {_VERSION}", content["lowprec recording"])
            found = cls(content["order"])
            found._moments = Moments.from_plain(content["moments"])
            for layer, role, *own in content["histograms"]:
                found._histograms[layer, role] = [tuple((int(e), int(n)) for e, n in h) for h in own]
            broken = content["not_finite"]
            found._not_finite = None if broken is None else Break(**broken)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            remedy = f"Reading it gave {type(error).__name__}: {error}"
            raise value_error("text", "be what to_json of this version gave", shown, remedy) from error
        return found

    def _sorted(self, found: Mapping[Key, Counters]) -> list[tuple[Key, Counters]]:
        """In the order of the model, roles as they came."""
        rank = {layer: place for place, layer in enumerate(self._order)}
        return sorted(found.items(), key=lambda item: (rank.get(item[0][0], len(rank)), item[0][0]))

    def __repr__(self) -> str:
        """How much there is."""
        return f"<Recording of {len(self._histograms)} casts in {len(self._moments)} moments>"

    def _repr_html_(self) -> str:
        """The table."""
        return self.table()._repr_html_()


def _written(text: str, path: str | Path | None) -> str:
    """The text, after writing it."""
    if path is not None:
        write(Path(path), text.encode())
    return text
