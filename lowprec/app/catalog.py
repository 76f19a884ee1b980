"""Number formats to look at: the listing, and the portrait of a single one."""

from collections.abc import Iterator
from fractions import Fraction

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lowprec.app.verify.proven import results
from lowprec.explore import text
from lowprec.explore.ladder import Ladder
from lowprec.formats import (
    NAMED,
    FixedPoint,
    Format,
    Scaled,
    TabledFormat,
    parse,
)
from lowprec.formats.properties import properties

_ALL_VALUES_UP_TO_BITS = 8
_MOST_COLUMNS = 8
_FEW = 32
"""Negative values that are all listed."""
_LISTED = (
    ("bits", "max", "smallest_normal", "smallest_subnormal", "eps"),
    ("bits", "max", "smallest_subnormal", "eps"),
    ("bits", "max", "eps"),
    ("bits", "eps"),
    ("bits",),
)
"""The columns of the listing, for ever narrower consoles."""


def listing(console: Console) -> Table:
    """The named formats and examples of each family, a line for each.

    Args:
        console: Where it will be printed; a narrow one leaves out columns, never a part of a name.

    Returns:
        A table that rich can print.

    Example:
        >>> listing(Console(width=80)).row_count == len(NAMED)
        True
    """
    unlimited = console.options.update(max_width=1000)
    for columns in _LISTED:
        table = _listing(columns)
        if console.measure(table, options=unlimited).maximum <= console.width:
            break
    return table


def _listing(columns: tuple[str, ...]) -> Table:
    """The listing with these columns behind the name."""
    table = Table(
        title="Number formats by name",
        caption="Any width: eXmYieee, eXmYfn, eXmYfnuz, eXmYfinite; binaryNpP of N bits and precision P, "
        "followed by s or u (unsigned), e or f (finite); fixedNfM, ufixedNfM of N bits, M of them behind the "
        "point, and fixedfM<unbounded>; bfpN, here the values of a group whose largest magnitude lies "
        "between 1 and 2; scaled<element,scale>, here over the scale 1; positN, positNesE; logIfM; "
        "codebook<value,value>. Proven: how many results `lowprec verify` held against definitions that "
        "share nothing with the kernels, and against other packages; all were equal.",
    )
    table.add_column("name", no_wrap=True)
    for column in columns:
        table.add_column(column.replace("_", "\n"), justify="right", overflow="fold")
    narrow = len(columns) == 1
    if not narrow:
        table.add_column("proven", justify="right", no_wrap=True)
    for name in NAMED:
        known = parse(name)
        values = [getattr(known, column) for column in columns]
        cells = [f"{value:.6g}" for value in values]
        table.add_row(name, *(cells if narrow else [*cells, _counted(results().get(name))]))
    return table


def _counted(number: int | None) -> str:
    """A number in millions or billions."""
    if number is None:
        return "–"
    return f"{number / 1e9:.3g}G" if number >= 1e9 else f"{number / 1e6:.3g}M"


def portrait(format: Format, console: Console) -> Group:
    """A format's properties, values and number line.

    Args:
        format: Any of the package's families.
        console: Where it will be printed; its width decides the columns.

    Returns:
        Something that the console can print.

    Example:
        >>> from lowprec.formats import parse
        >>> console = Console(width=72)
        >>> console.print(portrait(parse("bfp4"), console))  # doctest: +ELLIPSIS
        bfp4...
    """
    properties = _properties(format)
    if isinstance(format, FixedPoint) and not format.is_bounded:
        return Group(properties, "", f"The values are all multiples of {format.eps!r}, without end.")
    if isinstance(format, Scaled):
        format = format.element
    ladder = Ladder(format)
    parts: list[RenderableType] = [properties, "", _values(format, ladder, console)]
    if isinstance(format, TabledFormat) and not _mirrored(format):
        below = [f"{_number(value)}" for value in format.table.exact if value < 0]
        shown = below if len(below) <= _FEW else [*below[: _FEW // 2], "…", *below[-_FEW // 2 :]]
        parts.append(Text(f"Negative values: {', '.join(shown)}"))
    width, ascii = max(console.width, 40), not console.encoding.startswith("utf")
    parts += [
        "",
        "Number line: how many values lie in each cell",
        Text(text.number_line(format, width=width, ascii=ascii), no_wrap=True),
        "",
        "The positive values on a logarithmic line",
        Text(text.number_line(format, log=True, width=width, ascii=ascii), no_wrap=True),
    ]
    return Group(*parts)


def _properties(format: Format) -> Table:
    """Name and properties, exactly."""
    known = properties(format)
    table = Table(box=None, show_header=False, title=str(format), title_justify="left")
    for name, value in known.rows:
        table.add_row(str(name), str(value))
    if known.caption:
        table.add_row("", known.caption)
    return table


def _values(format: Format, ladder: Ladder, console: Console) -> RenderableType:
    """The non-negative values, all of them or the interesting ones, in rows as wide as fit."""
    columns = _MOST_COLUMNS
    table = _value_table(format, ladder, columns)
    unlimited = console.options.update(max_width=1000)
    while columns > 1 and console.measure(table, options=unlimited).maximum > console.width:
        columns //= 2
        table = _value_table(format, ladder, columns)
    if format.min >= 0:
        return Group("Values from zero up", table, "There are no negative values.")
    if isinstance(format, TabledFormat) and not _mirrored(format):
        return Group("Values from zero up", table)
    below = f", and {format.min!r} comes below" if -format.min != format.max else ""
    return Group("Values from zero up", table, f"The negative values mirror them{below}.")


def _mirrored(format: TabledFormat) -> bool:
    """Whether the values are those of the other sign."""
    finite = format.table.finite
    return all(low == -high for low, high in zip(finite, reversed(finite), strict=True))


def _value_table(format: Format, ladder: Ladder, columns: int) -> Table:
    """So many values in a row, under the code of the first one."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("" if isinstance(format, TabledFormat) else "code", no_wrap=True)
    for column in range(columns):
        table.add_column(f"+{column}", justify="right", no_wrap=True)
    digits = -(-format.bits // 4)
    before = -1
    for row in _rows(format, ladder, columns):
        if row != before + 1:
            table.add_row("…")
        before = row
        codes = range(row * columns, min((row + 1) * columns, ladder.size))
        label = "" if isinstance(format, TabledFormat) else f"0x{row * columns:0{digits}x}"
        table.add_row(label, *(_number(ladder.value(code)) for code in codes))
    return table


def _rows(format: Format, ladder: Ladder, columns: int) -> Iterator[int]:
    """The rows to show: all, or those with 0, the smallest normal value, 1 and the largest."""
    last = (ladder.size - 1) // columns
    if format.bits <= _ALL_VALUES_UP_TO_BITS:
        yield from range(last + 1)
        return
    landmarks = (Fraction(0), Fraction(format.smallest_normal), Fraction(1))
    rows = {ladder.below(mark, inclusive=False) // columns for mark in landmarks}
    yield from sorted({row for row in rows if row < last} | {last})


def _number(value: Fraction) -> str:
    """A value as the shortest decimal that reads back to it."""
    return repr(float(value)).removesuffix(".0")
