"""Pieces of HTML. What comes from files is escaped wherever it is not already HTML."""

import html
from collections.abc import Iterable, Sequence


class Html(str):
    """Text that is HTML already; every other string is escaped before it gets into the page."""

    __slots__ = ()


def text(value: object) -> Html:
    """A value as HTML that shows it, whatever signs are in it.

    Args:
        value: Anything; ``Html`` is left as it is.

    Returns:
        Its text, escaped, also for attributes in quotes.

    Example:
        >>> text("<script>"), text(Html("<b>")), text('"')
        ('&lt;script&gt;', '<b>', '&quot;')
    """
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def joined(parts: Iterable[str]) -> Html:
    """Pieces one after the other, each on its line.

    Args:
        parts: Escaped unless they are ``Html``.

    Returns:
        All of them.

    Example:
        >>> print(joined(["a < b", Html("<br>")]))
        a &lt; b
        <br>
    """
    return Html("\n".join(map(text, parts)))


def element(tag: str, content: object, **attributes: str) -> Html:
    """An element; an attribute's underscores become hyphens, and ``class_`` is ``class``.

    Args:
        tag: Its name.
        content: What is in it, escaped unless it is ``Html``.
        attributes: Their values are escaped.

    Returns:
        The element.

    Example:
        >>> element("p", "1 < 2", class_="note")
        '<p class="note">1 &lt; 2</p>'
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(value)}"' for name, value in attributes.items()
    )
    return Html(f"<{tag}{written}>{text(content)}</{tag}>")


def section(id: str, title: str, *parts: str) -> Html:
    """A section of the page with its heading.

    Args:
        id: Of the section.
        title: Its heading.
        parts: What is in it, escaped unless it is ``Html``.

    Returns:
        The section.

    Example:
        >>> section("lost", "What was lost").startswith('<section id="lost"')
        True
    """
    return Html(
        f'<section id="{id}" aria-labelledby="{id}-title">\n'
        f'<h2 id="{id}-title">{text(title)}</h2>\n{joined(parts)}\n</section>'
    )


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> Html:
    """A table that scrolls within itself where it is too wide.

    Args:
        caption: What it shows.
        columns: The headings.
        rows: A cell for each column; the first heads its row.
        words: How many columns from the left hold words; the others hold numbers, to the right.

    Returns:
        The table.

    Example:
        >>> print(table("Bits", ["format", "bits"], [["e4m3fn", "8"]]))
        <div class="scroll" tabindex="0" role="region" aria-label="Bits">
        <table>
        <caption>Bits</caption>
        <thead><tr><th scope="col">format</th><th scope="col" class="number">bits</th></tr></thead>
        <tbody>
        <tr><th scope="row">e4m3fn</th><td class="number">8</td></tr>
        </tbody>
        </table>
        </div>
    """
    sides = ["" if place < words else ' class="number"' for place in range(len(columns))]
    heads = "".join(
        f'<th scope="col"{side}>{text(name)}</th>' for name, side in zip(columns, sides, strict=True)
    )
    lines = [
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td{side}>{text(cell)}</td>" for cell, side in zip(row[1:], sides[1:], strict=True))
        + "</tr>"
        for row in rows
    ]
    return framed(
        caption,
        Html(f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{joined(map(Html, lines))}\n</tbody>"),
    )


def framed(caption: str, body: Html, class_: str = "") -> Html:
    """A table in a frame that scrolls within itself where it is too wide.

    Args:
        caption: What the table shows.
        body: Its head and rows.
        class_: Of the table, for the style sheet.

    Returns:
        The table.

    Example:
        >>> "<caption>Bits</caption>" in framed("Bits", Html("<tbody></tbody>"))
        True
    """
    kind = f' class="{class_}"' if class_ else ""
    return Html(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}">\n'
        f"<table{kind}>\n<caption>{text(caption)}</caption>\n{body}\n</table>\n</div>"
    )


def listing(label: str, content: str, class_: str = "scroll") -> Html:
    """Lines of text exactly as they are.

    Args:
        label: What they are.
        content: The lines.
        class_: ``"scroll"`` to scroll long lines, ``"wrapped"`` to break them.

    Returns:
        The lines.

    Example:
        >>> "<code>a &lt; b</code>" in listing("A comparison", "a < b")
        True
    """
    return element(
        "pre", element("code", content), class_=class_, tabindex="0", role="region", aria_label=label
    )


def folded(summary: str, content: Html) -> Html:
    """Something that is shown when its title is clicked.

    Args:
        summary: The title.
        content: What is shown.

    Returns:
        Both.

    Example:
        >>> "<summary>More</summary>" in folded("More", Html("<p></p>"))
        True
    """
    return Html(f"<details>\n{element('summary', summary)}\n{content}\n</details>")
