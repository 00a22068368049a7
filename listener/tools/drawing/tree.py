"""A picture as a tree of text: each box once, and by its name afterwards."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import astuple, dataclass
from typing import TextIO

import click

from listener.tools.drawing.picture import NAMED, Box, Edge, Picture

#: Characters of a line, unless there is a terminal; those of a line deep within, however narrow that is.
_WIDTH, _NARROWEST = 100, 40
_INNER = "inner"


@dataclass(frozen=True, slots=True)
class Signs:
    """What lines are drawn with."""

    branch: str
    last: str
    down: str
    dot: str
    arrow: str
    cut: str


LINES = Signs("├─ ", "└─ ", "│  ", " · ", " → ", "…")
ASCII = Signs("|- ", "`- ", "|  ", ", ", " -> ", "...")


def text(picture: Picture, encoding: str = "utf-8", styled: bool = False, width: int = _WIDTH) -> str:
    """The tree, with a line break at its end.

    Args:
        picture: what is drawn.
        encoding: what cannot be said in it is written in ASCII, names with backslashes.
        styled: with colours for a terminal.
        width: characters of a line.
    """
    signs = LINES if _says(encoding, "".join(astuple(LINES))) else ASCII
    writer = _Writer(picture, signs, styled, width)
    for root in picture.roots:
        writer.tree(root)
    inner = [f"{_INNER}: requests cannot name it"] if any(box.inner for box in picture.boxes.values()) else []
    if below := inner + [picture.note] * (picture.note == NAMED):
        writer.lines += ["", *below]
    made = "\n".join([*writer.lines, ""]).replace("…", signs.cut)
    return made.encode(encoding, "backslashreplace").decode(encoding)


def width(stream: TextIO) -> int:
    """Characters of a line there: as many as a terminal has, but no more than one reads well."""
    return min(max(shutil.get_terminal_size().columns, 60), 110) if stream.isatty() else _WIDTH


def _says(encoding: str, characters: str) -> bool:
    try:
        characters.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class _Writer:
    def __init__(self, picture: Picture, signs: Signs, styled: bool, width: int) -> None:
        self._picture, self._signs, self._styled, self._width = picture, signs, styled, width
        self._within: dict[str, str] = {}
        self.lines: list[str] = []

    def tree(self, root: str) -> None:
        """One root with all below, after a blank line where it has branches or the one before had."""
        before = len(self.lines)
        self._box(root, root, "", "", "")
        if before and (len(self.lines) - before > 1 or self._had_branches):
            self.lines.insert(before, "")
        self._had_branches = len(self.lines) - before > 2 or (not before and len(self.lines) > 1)

    _had_branches = False

    def _box(self, key: str, root: str, lead: str, rest: str, label: str) -> None:
        """A box behind its branch, then those below.

        Args:
            key: of the box.
            root: of the tree.
            lead: what stands before it in its first line.
            rest: what stands before it in further ones.
            label: of the way to it.
        """
        box, edges = self._picture.boxes[key], self._picture.below(key)
        if key in self._within and (edges or box.details):
            self._line(box, label, [*_tags(box), box.what, self._see(key, root)], lead, rest)
            return
        self._within[key] = root
        said = [*_tags(box), box.what, *box.details]
        self._line(box, label, said, lead, rest + (self._signs.down if edges else "   "))
        for edge in edges:
            self._branch(edge, root, rest, edge is edges[-1])

    def _branch(self, edge: Edge, root: str, rest: str, last: bool) -> None:
        sign, below = (self._signs.last, "   ") if last else (self._signs.branch, self._signs.down)
        self._box(edge.target, root, rest + sign, rest + below, edge.label)

    def _see(self, key: str, root: str) -> str:
        at = self._within[key]
        return "see above" if at in (root, key) else f"see {self._picture.boxes[at].name}"

    def _line(self, box: Box, label: str, said: list[str], lead: str, rest: str) -> None:
        """One line of text, wrapped where it is too long."""
        arrow = f"{label}{self._signs.arrow}" if label else ""
        name = f"{box.name}: " if box.name else ""
        wrapped = textwrap.wrap(
            f"{arrow}{name}{self._signs.dot.join(said)}",
            width=max(self._width - max(len(lead), len(rest)), _NARROWEST),
            break_on_hyphens=False,
            subsequent_indent="  ",
        )
        first = wrapped[0]
        if self._styled and first.startswith(arrow + box.name):
            end = len(arrow) + len(box.name)
            first = f"{click.style(arrow, fg='cyan') if arrow else ''}{click.style(box.name, bold=True)}{first[end:]}"
        self.lines.append(f"{self._dim(lead)}{first}")
        self.lines += [f"{self._dim(rest)}{more}" for more in wrapped[1:]]

    def _dim(self, signs: str) -> str:
        return click.style(signs, dim=True) if self._styled and signs else signs


def _tags(box: Box) -> list[str]:
    return [*(["default"] if box.default else []), *([_INNER] if box.inner else [])]
