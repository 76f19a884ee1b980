"""Table: how rows print, show themselves in a notebook, and convert."""

import csv
import io
import sys
import types

import pytest

from lowprec.table import Table

ROWS = (("a", 1, 0.12345, True), ("b<c>", 20_000, None, False), ("d", -3, float("nan"), None))


def table(**options) -> Table:
    return Table(("name", "count", "share", "good"), ROWS, **options)


def test_text_is_aligned_with_numbers_to_the_right():
    shown = str(table(title="Title", caption="What it means", formats={"share": ".1%"}))
    assert shown.splitlines() == [
        "Title",
        "name   count  share  good",
        "a          1  12.3%  yes",
        "b<c>  20,000         no",
        "d         -3    nan",
        "What it means",
    ]


def test_html_escapes_what_it_shows_and_has_every_row():
    html = table(title="A & B", caption="<i>")._repr_html_()
    assert html.count("<tr>") == 4
    assert "b&lt;c&gt;" in html
    assert "A &amp; B" in html
    assert "&lt;i&gt;" in html
    assert '<td style="text-align:right">0.1235</td>' in html


def test_csv_keeps_numbers_in_full():
    rows = list(csv.reader(io.StringIO(table().to_csv())))
    assert rows[1] == ["a", "1", "0.12345", "True"]
    assert rows[2] == ["b<c>", "20000", "", "False"]


def test_columns_and_rows_can_be_asked_for():
    assert table()["count"] == (1, 20_000, -3)
    assert len(table()) == 3
    assert next(iter(table())) == {"name": "a", "count": 1, "share": 0.12345, "good": True}
    assert hash(table(formats={"share": ".1f"})) == hash(table(formats=(("share", ".1f"),)))


def test_a_frame_has_the_columns_where_pandas_is_there(monkeypatch):
    pandas = types.SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns))
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert table().to_dataframe() == (list(ROWS), ["name", "count", "share", "good"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        ImportError,
        match=r"`pandas` must be installed for to_dataframe\. Install it with: pip install pandas",
    ):
        table().to_dataframe()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("a", "a"), ()), "`columns` must differ from each other, got"),
        ((("a",), ((1, 2),)), r"`rows` must have 1 cells each, got \(1, 2\)"),
        ((("a",), (), "", "", {"b": ".1f"}), r"`formats` must name columns, got \['b'\]"),
    ],
)
def test_a_wrong_shape_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Table(*arguments)
    with pytest.raises(ValueError, match="`column` must be one of name, count, share, good, got 'other'"):
        table()["other"]
