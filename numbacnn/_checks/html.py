"""Tables and curves as HTML, by which results present themselves in notebooks. Colors follow the notebook's theme."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

from numbacnn.errors import escaped

COLORS = ("#0072B2", "#D55E00")  # blue and vermilion of Okabe and Ito
WIDTH, HEIGHT, MARGIN = 320, 140, 12
MAX_ROWS = 200  # of a table, so that a page stays light


def as_text(text: object) -> str:
    """Return text that may come from a file for HTML and SVG: without markup, and with controls escaped."""
    return escape(escaped(text))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """Return a table that scrolls if it is tall or wide; of more than ``MAX_ROWS`` rows, only the first and the last.

    Numbers and text that begins with a digit are aligned right. Everything is escaped.
    """
    visible = list(rows)
    if len(visible) > MAX_ROWS:
        hidden = len(visible) - MAX_ROWS
        visible[MAX_ROWS // 2 : -MAX_ROWS // 2] = [[f"… {hidden} more rows …"]]
    head = "".join(f'<th scope="col">{as_text(name)}</th>' for name in header)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in visible)
    title = f'<caption style="text-align:left">{as_text(caption)}</caption>' if caption else ""
    return scrolling(f"<table>{title}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>")


def scrolling(content: str, height: int = 24) -> str:
    """Return a box of at most ``height`` lines that scrolls, also with the keyboard."""
    return f'<div tabindex="0" style="overflow:auto;max-width:100%;max-height:{height}em">{content}</div>'


def lines(texts: Sequence[str]) -> str:
    """Return texts, a line each."""
    return f"<div>{'<br>'.join(map(as_text, texts))}</div>"


def row(*parts: str) -> str:
    """Return parts next to each other, or below each other on a narrow page."""
    style = "display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start"
    return f'<div style="{style}">{"".join(parts)}</div>'


def curves(title: str, series: Mapping[str, Sequence[float | None]]) -> str:
    """Return the curves of at most two series over epochs 1, 2 … as an SVG image; None is left out."""
    values = [value for line in series.values() for value in line if value is not None and isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    span = high - low or 1.0
    count = max((len(line) for line in series.values()), default=1)
    drawn, names = [], []
    for color, (name, line) in zip(COLORS, series.items(), strict=False):
        points = [
            (
                MARGIN + (WIDTH - 2 * MARGIN) * (i / (count - 1) if count > 1 else 0.5),
                HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - low) / span,
            )
            for i, value in enumerate(line)
            if value is not None and isfinite(value)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in points]
        names.append(f'<span style="color:{color}" aria-hidden="true">●</span> {as_text(name)}')
    label = as_text(f"{title}, from {low:.4g} to {high:.4g}")
    frame = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="currentColor" stroke-opacity="0.3"/>'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{label}">{frame}{"".join(drawn)}</svg>'
    )
    return f"<div><div>{label}: {', '.join(names)}</div>{svg}</div>"


def _cell(value: object) -> str:
    text = str(value)
    side = "right" if text[:1].isdigit() or text[:1] in ("-", "−") else "left"
    return f'<td style="text-align:{side};white-space:nowrap">{as_text(text)}</td>'
