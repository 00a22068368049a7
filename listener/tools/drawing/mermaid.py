"""A picture as a flowchart of Mermaid, which GitHub, GitLab and many wikis draw."""

from __future__ import annotations

import re

from listener.tools.drawing.picture import Box, Picture

#: What can stand in a label as it is; all else is written as the number of its character. Markdown and HTML count too.
_PLAIN = re.compile(r"[^\W_]|[ ,:/@%]|(?<=[^\W_])[-._](?=[^\W_])")
#: Looks like a list of Markdown's.
_LIST = re.compile(r"^\d+[.)]")
_SHAPES = {"model": ("([", "])"), "handler": ("[", "]"), "pass": ("([", "])")}
_CLASSES = ("classDef route stroke-width:3px", "classDef inner stroke-dasharray:2 2")


def text(picture: Picture) -> str:
    """The flowchart, with a line break at its end."""
    ids = {key: f"n{number}" for number, key in enumerate(picture.boxes)}
    lines = ["flowchart LR"]
    for key, box in picture.boxes.items():
        kind = ":::route" if box.choosable else ":::inner" if box.inner else ""
        opening, closing = _SHAPES.get(box.kind, ("{{", "}}"))
        lines.append(f'{ids[key]}{opening}"{_words(box)}"{closing}{kind}')
    for edge in picture.edges:
        arrow = "-.->" if edge.dashed else "-->"
        label = f'|"{escaped(edge.label)}"|' if edge.label else ""
        lines.append(f"{ids[edge.source]} {arrow}{label} {ids[edge.target]}")
    return "\n  ".join([*lines, *_CLASSES]) + "\n"


def fenced(picture: Picture) -> str:
    """The same as a block for a page in Markdown."""
    return f"```mermaid\n{text(picture)}```\n"


def _words(box: Box) -> str:
    tags = [*(["default"] if box.default else []), *(["inner: requests cannot name it"] if box.inner else [])]
    title = [f"<b>{escaped(box.name)}</b>"] if box.name else []
    return "<br>".join([*title, *(escaped(line) for line in (*tags, box.what, *box.details))])


def escaped(words: str) -> str:
    """Text for a label in quotes."""
    made = "".join(c if _PLAIN.match(words, i) else f"#{ord(c)};" for i, c in enumerate(words))
    return f"#{ord(made[0])};{made[1:]}" if _LIST.match(words) else made
