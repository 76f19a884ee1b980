"""Audit: what a model computes, and which of it is simulated."""

import html
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields

from lowprec.auditing.operators import PRODUCT, UNKNOWN
from lowprec.auditing.watching import CARRIER, OUT_OF_REACH, SIMULATED
from lowprec.table import Cell, Table


@dataclass(frozen=True)
class AuditRow:
    """One operation of one layer, over all its calls."""

    layer: str
    """Its qualified name; ``(model)`` for what the model itself does, ``(loss)`` for what comes after."""
    operation: str
    phase: str
    """``forward``, ``backward``, or ``recomputation`` by a checkpoint within the backward."""
    kind: str
    """``product``, ``elementwise``, ``reduction``, ``normalization``, ``softmax``, ``pooling``, ``loss``,
    ``conversion`` of dtypes, ``cast``, ``unknown`` or ``other``."""
    status: str
    """``simulated``, ``carrier precision`` or ``out of reach``; empty for casts."""
    how: str
    """What each operand was rounded to, and in what the product is summed; else what could be done."""
    dtype: str
    """Of the result."""
    calls: int
    multiply_adds: int
    """Of products; else 0."""
    elements: int
    """Of the largest tensor read or written, over all calls; 0 for products."""


@dataclass(frozen=True)
class Audit:
    """What one forward and backward of a model computed; prints as a summary and a table.

    Example:
        >>> import torch, lowprec
        >>> audit = lowprec.audit(torch.nn.Linear(4, 2), torch.ones(3, 4))
        >>> audit.fractions["carrier precision"], audit.multiply_adds
        (1.0, 48)
    """

    rows: tuple[AuditRow, ...]
    has_backward: bool
    """False where no output needed a gradient, so that only the forward was run."""

    @property
    def products(self) -> tuple[AuditRow, ...]:
        """The rows of products."""
        return tuple(row for row in self.rows if row.kind == PRODUCT)

    @property
    def unsimulated(self) -> tuple[AuditRow, ...]:
        """The rows of products that were not simulated, those with most multiply-adds first."""
        rows = [row for row in self.products if row.status != SIMULATED]
        return tuple(sorted(rows, key=lambda row: -row.multiply_adds))

    @property
    def multiply_adds(self) -> int:
        """Of all products."""
        return sum(row.multiply_adds for row in self.products)

    @property
    def fractions(self) -> dict[str, float]:
        """The share of the multiply-adds for each status; zeros where there is no product."""
        total = self.multiply_adds or 1
        return {
            status: sum(row.multiply_adds for row in self.products if row.status == status) / total
            for status in (SIMULATED, CARRIER, OUT_OF_REACH)
        }

    @property
    def unknown(self) -> tuple[AuditRow, ...]:
        """Operators that neither torch nor this package defines, whose products cannot be counted."""
        return tuple(row for row in self.rows if row.kind == UNKNOWN)

    def summary(self) -> str:
        """What share of the multiply-adds is simulated, and where the others are.

        Returns:
            A few lines.
        """
        if self.products:
            parts = [f"{_percent(share)} {status}" for status, share in self.fractions.items()]
            lines = [f"{self.multiply_adds:,} multiply-adds: {', '.join(parts)}."]
        else:
            lines = ["No products."]
        if not self.has_backward:
            lines.append("Forward only: no output needs a gradient.")
        lines += [self._others(status) for status in (CARRIER, OUT_OF_REACH) if self.fractions[status]]
        if self.unknown:
            listed = ", ".join(sorted({f"{row.operation} in {row.layer}" for row in self.unknown}))
            lines.append(f"Operators whose multiply-adds are not known: {listed}.")
        return "\n".join(lines)

    def _others(self, status: str) -> str:
        """The layers with most products of a status."""
        shares: dict[str, int] = defaultdict(int)
        for row in self.unsimulated:
            if row.status == status:
                shares[f"{row.operation.partition(', ')[0]} in {row.layer}"] += row.multiply_adds
        ranked = sorted(shares.items(), key=lambda item: -item[1])
        listed = [f"{name} ({_percent(count / self.multiply_adds)})" for name, count in ranked[:_LISTED]]
        more = len(ranked) - len(listed)
        return f"{status.capitalize()}: {', '.join(listed)}{f', and {more} more' if more else ''}."

    def table(self) -> Table:
        """Every row.

        Returns:
            A table with the columns of AuditRow, and each product's share of all multiply-adds.
        """
        names = [field.name for field in fields(AuditRow)]
        total = self.multiply_adds
        rows = [
            (*(getattr(row, n) for n in names), row.multiply_adds / total if row.multiply_adds else None)
            for row in self.rows
        ]
        columns = [name.replace("_", "-") for name in names]
        return Table((*columns, "share"), tuple(rows), formats={"share": ".1%"})

    def to_csv(self) -> str:
        """Every row as CSV.

        Returns:
            The text; see ``Table.to_csv``.
        """
        return self.table().to_csv()

    def _tables(self) -> tuple[Table, ...]:
        """Products layer by layer, and the rest operation by operation."""
        return tuple(table for table in (self._product_table(), self._other_table()) if len(table))

    def _product_table(self) -> Table:
        """A line for each way in which a layer computes products."""
        sums: dict[tuple[str, str, str, str, str], int] = defaultdict(int)
        for row in self.products:
            sums[row.layer, row.operation, row.phase, row.status, row.how] += row.multiply_adds
        rows: list[tuple[Cell, ...]] = []
        above = ""
        for (layer, operation, phase, status, how), count in _by_layer(sums.items()):
            share = count / self.multiply_adds if count else 0.0
            rows.append((layer if layer != above else "", operation, phase, count, share, status, how))
            above = layer
        columns = ("layer", "product", "pass", "multiply-adds", "share", "status", "how")
        return Table(columns, tuple(rows), formats={"share": ".1%"})

    def _other_table(self) -> Table:
        """A line for each kind of work besides products, over all layers."""
        counts: dict[tuple[str, str, str], list[AuditRow]] = defaultdict(list)
        for row in self.rows:
            if row.kind != PRODUCT:
                counts[row.kind, row.operation, row.dtype].append(row)
        rows: list[tuple[Cell, ...]] = [
            (
                kind,
                operation,
                len({row.layer for row in rows}),
                *(sum(r.elements for r in rows if (r.phase == "forward") == own) for own in (True, False)),
                dtype,
            )
            for (kind, operation, dtype), rows in sorted(counts.items())
        ]
        columns = ("kind", "operation", "layers", "elements forward", "elements backward", "carrier")
        return Table(columns, tuple(rows), title="Besides products, without simulation but for the casts")

    def __str__(self) -> str:
        """The summary, then the tables."""
        return "\n\n".join([self.summary(), *map(str, self._tables())])

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        lines = "<br>".join(html.escape(line) for line in self.summary().splitlines())
        return f"<p>{lines}</p>" + "".join(table._repr_html_() for table in self._tables())


_LISTED = 4
"""How many layers a summary names."""


def _percent(share: float) -> str:
    """A share; what is little is not nothing, and what is most not all."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return f"{100 * share:.3g} %"


def _by_layer(
    items: Iterable[tuple[tuple[str, str, str, str, str], int]],
) -> list[tuple[tuple[str, str, str, str, str], int]]:
    """The rows of each layer together, layers in the order in which they first appear."""
    found = list(items)
    order = {layer: place for place, layer in enumerate(dict.fromkeys(key[0] for key, _ in found))}
    return sorted(found, key=lambda item: order[item[0][0]])
