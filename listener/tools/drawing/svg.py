"""A picture as SVG that stands by itself: no scripts, nothing from elsewhere; readable on light and on dark."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from html import escape

from listener.tools.drawing import layout
from listener.tools.drawing.layout import Bend, Line, Rect
from listener.tools.drawing.picture import Box, Edge, Picture

_MARGIN = 24.0
_TITLE, _TEXT, _LABEL = 14.0, 12.0, 11.5
_LEADING = 17.0
_PAD = 14.0
_HEAD = 54.0

#: Of each kind the colour on light and on dark.
_COLOURS = {
    "switch": ("#7c3aed", "#a78bfa"),
    "split": ("#b45309", "#fbbf24"),
    "ensemble": ("#0f766e", "#2dd4bf"),
    "fallback": ("#be123c", "#fb7185"),
    "cascade": ("#c2410c", "#fb923c"),
    "shadow": ("#57534e", "#d6d3d1"),
    "sequence": ("#1d4ed8", "#60a5fa"),
    "handler": ("#15803d", "#4ade80"),
    "model": ("#475569", "#94a3b8"),
    "pass": ("#475569", "#94a3b8"),
    "ref": ("#475569", "#94a3b8"),
}
_STYLE = """
text { font-family: Helvetica, Arial, "Liberation Sans", sans-serif; font-size: 12px; fill: #334155; }
.paper { fill: #ffffff; }
.box { fill: #f8fafc; stroke: #cbd5e1; stroke-width: 1; }
.route { fill: #ffffff; stroke: #334155; stroke-width: 1.75; }
.name, .head { font-size: 14px; font-weight: bold; fill: #0f172a; }
.head { font-size: 17px; }
.what { font-weight: bold; }
.label { font-size: 11.5px; fill: #0f172a; }
.tag { font-size: 10.5px; font-weight: bold; fill: #ffffff; }
.pill { fill: #334155; }
.inner { fill: #64748b; }
.edge { fill: none; stroke: #64748b; stroke-width: 1.5; }
.dashed { stroke-dasharray: 5 4; }
.arrow { fill: #64748b; }
"""
_DARK = """
text { fill: #cbd5e1; }
.paper { fill: #0d1117; }
.box { fill: #161b22; stroke: #475569; }
.route { fill: #1c2430; stroke: #e2e8f0; }
.name, .head, .label { fill: #f1f5f9; }
.tag { fill: #0d1117; }
.pill { fill: #e2e8f0; }
.inner { fill: #94a3b8; }
.edge { stroke: #94a3b8; }
.arrow { fill: #94a3b8; }
"""


def text(picture: Picture) -> str:
    """The file."""
    sizes = {key: _size(box) for key, box in picture.boxes.items()}
    lines = [Line(edge.source, edge.target, _label_width(edge)) for edge in picture.edges]
    placed = layout.place(sizes, lines)
    legend, legend_width = _legend(picture, placed.height + _HEAD + 2 * _MARGIN)
    head = _head(picture)
    head_width = max(_width(head[0], 17.0, bold=True), _width(head[1], _TEXT))
    width = 2 * _MARGIN + max(placed.width, legend_width, head_width)
    height = placed.height + _HEAD + 2 * _MARGIN + (34.0 if legend else 10.0)
    body = [
        f'<rect class="paper" width="{_n(width)}" height="{_n(height)}" rx="8"/>',
        _text(_MARGIN, _MARGIN + 14, head[0], "head"),
        _text(_MARGIN, _MARGIN + 34, head[1], ""),
        f'<g transform="translate({_n(_MARGIN)} {_n(_MARGIN + _HEAD)})">',
        *(_edge(edge, way) for edge, way in zip(picture.edges, placed.ways, strict=False)),
        *(_box(box, placed.boxes[key]) for key, box in picture.boxes.items()),
        "</g>",
        *legend,
    ]
    return _frame(picture, width, height, body)


def _frame(picture: Picture, width: float, height: float, body: Iterable[str]) -> str:
    light = "".join(f".{kind} {{ fill: {colour}; }}\n" for kind, (colour, _) in _kinds(picture))
    dark = "".join(f".{kind} {{ fill: {colour}; }}\n" for kind, (_, colour) in _kinds(picture))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
            f'viewBox="0 0 {_n(width)} {_n(height)}" role="img">',
            f"<title>{escape(_head(picture)[0])}</title>",
            f"<style>{_STYLE}{light}@media (prefers-color-scheme: dark) {{{_DARK}{dark}}}</style>",
            '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto"><path class="arrow" d="M0,0 L10,5 L0,10 z"/></marker></defs>',
            *(part for part in body if part),
            "</svg>\n",
        ]
    )


def _kinds(picture: Picture) -> list[tuple[str, tuple[str, str]]]:
    used = {box.kind for box in picture.boxes.values()}
    return [(f"k-{kind}", colours) for kind, colours in _COLOURS.items() if kind in used]


def _head(picture: Picture) -> tuple[str, str]:
    return f"The graph of {picture.title}", picture.note


def _texts(box: Box) -> list[tuple[str, str]]:
    """The lines of a box, each with its class."""
    title = [(box.name, "name")] if box.name else []
    return [*title, (box.what, f"what k-{box.kind}"), *((detail, "") for detail in box.details)]


def _tags(box: Box) -> list[tuple[str, str]]:
    return [*([("default", "pill")] if box.default else []), *([("inner", "inner")] if box.inner else [])]


def _tag_width(tag: str) -> float:
    return _width(tag, 10.5, bold=True) + 14


def _size(box: Box) -> tuple[float, float]:
    texts = _texts(box)
    widths = [_width(line, _TITLE if "name" in kind else _TEXT, bold=kind != "") for line, kind in texts]
    widths[0] += sum(_tag_width(tag) + 8 for tag, _ in _tags(box))
    return max([*widths, 90.0]) + 2 * _PAD + 4, len(texts) * _LEADING + 18


def _box(box: Box, at: Rect) -> str:
    kind = "box route" if box.choosable else "box"
    parts = [
        f'<rect class="{kind}" x="{_n(at.x)}" y="{_n(at.y)}" width="{_n(at.width)}" height="{_n(at.height)}" rx="7"/>',
        f'<path class="k-{box.kind}" d="M{_n(at.x + 5)},{_n(at.y + 7)} h3 V{_n(at.bottom - 7)} h-3 z"/>',
    ]
    texts = _texts(box)
    y = at.y + (at.height - len(texts) * _LEADING) / 2 + 12.5
    parts += [_text(at.x + _PAD + 4, y + i * _LEADING, line, kind) for i, (line, kind) in enumerate(texts)]
    right = at.right - 8
    for tag, kind in reversed(_tags(box)):
        wide = _tag_width(tag)
        right -= wide
        parts.append(f'<rect class="{kind}" x="{_n(right)}" y="{_n(y - 12)}" width="{_n(wide)}" height="16" rx="8"/>')
        parts.append(_text(right + 7, y - 0.2, tag, "tag"))
        right -= 6
    return f"<g>{''.join(parts)}</g>"


def _label_width(edge: Edge) -> float:
    return _width(edge.label, _LABEL) + 14 if edge.label else 8.0


def _edge(edge: Edge, way: Sequence[Bend]) -> str:
    path = [f"M{_n(way[0].start)},{_n(way[0].y)}"]
    for bend in way:
        middle = (bend.straight + bend.end) / 2
        path.append(f"H{_n(bend.straight)}")
        path.append(f"C{_n(middle)},{_n(bend.y)} {_n(middle)},{_n(bend.end_y)} {_n(bend.end)},{_n(bend.end_y)}")
    kind = "edge dashed" if edge.dashed else "edge"
    drawn = f'<path class="{kind}" d="{" ".join(path)}" marker-end="url(#arrow)"/>'
    return drawn + (_text(way[0].start + 7, way[0].y - 4, edge.label, "label") if edge.label else "")


def _legend(picture: Picture, y: float) -> tuple[list[str], float]:
    """What borders and lines mean, as far as they occur; and how wide that is."""
    boxes, edges = picture.boxes.values(), picture.edges
    entries = []
    if edges and any(box.choosable for box in boxes):
        entries.append(
            ('<rect class="box route" x="{x}" y="{y}" width="26" height="14" rx="4"/>', "a route: requests can name it")
        )
    if any(box.inner for box in boxes):
        entries.append(
            ('<rect class="inner" x="{x}" y="{y}" width="26" height="14" rx="7"/>', "inner: requests cannot name it")
        )
    if any(edge.dashed for edge in edges):
        line = '<path class="edge dashed" d="M{x},{m} h26"/>'
        entries.append((line, "a copy, whose answer goes nowhere"))
    parts, x = [], _MARGIN
    for form, words in entries:
        parts += [form.format(x=_n(x), y=_n(y), m=_n(y + 7)), _text(x + 34, y + 11, words, "")]
        x += 34 + _width(words, _TEXT) + 28
    return parts, x - _MARGIN - 28


def _text(x: float, y: float, words: str, kind: str) -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{_n(x)}" y="{_n(y)}">{escape(words, quote=False)}</text>'


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _width(words: str, size: float, bold: bool = False) -> float:
    """How wide a text becomes at most, in the usual fonts without serifs."""
    return sum(map(_em, words)) * size * (1.12 if bold else 1.04)


def _em(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.1
    if character in "iljtfrI.,:;'|!()[]{} /":
        return 0.36
    if character in "mwMW@%…":
        return 0.95
    return 0.72 if character.isupper() else 0.58
