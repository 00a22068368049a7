"""What a drawing says about a node: its kind, what it decides on, and the way to each node within it."""

from __future__ import annotations

from dataclasses import dataclass

from listener.nodes import (
    Cascade,
    Ensemble,
    Fallback,
    From,
    Node,
    Pass,
    Ref,
    Sequence_,
    Shadow,
    Split,
    Switch,
    named,
)

#: Characters of a name; longer ones are cut.
LONGEST = 44
_INPUTS = {"prediction": "then", "instance": "then, the instance again", "both": "then, instance and prediction"}


@dataclass(frozen=True, slots=True)
class Way:
    """How a node comes to be asked by the one above.

    Attributes:
        label: a word or two; "" = always.
        dashed: a copy, whose answer goes nowhere.
    """

    label: str = ""
    dashed: bool = False


def shown(text: str, longest: int = LONGEST) -> str:
    """A name in one line: what does not print becomes a blank or `?`, what is too long ends in an ellipsis."""
    flat = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
    return flat if len(flat) <= longest else f"{flat[: longest - 1].rstrip()}…"


def about(node: Node) -> tuple[str, tuple[str, ...]]:
    """What a node is, in a line, and details."""
    match node:
        case Switch():
            each = "of each instance" if node.on.per_instance else "of the request"
            others = () if node.otherwise else ("other values are answered 400",)
            return f"switch by {_source(node.on)} {each}", others
        case Split():
            return "split by weight", (
                f"sticky by {_source(node.sticky)}" if node.sticky else "drawn for each request",
            )
        case Ensemble():
            return "ensemble, all at once", (f"merged: {shown(named(node.merge))}",)
        case Fallback():
            return "fallback, the first that answers", ()
        case Cascade():
            score = shown(named(node.score)) if node.score else "the prediction's number, or greatest number"
            return f"cascade, on while the score is below {node.below:g}", (f"score: {score}",)
        case Shadow():
            compare = ("logs what differs",) if node.compare else ()
            return "shadow, another one gets copies", (f"at most {node.limit} copies at a time", *compare)
        case Sequence_():
            return "sequence, one after the other", ()
        case Pass():
            return "pass, the instances as they are", ()
        case Ref():
            return "the same as", ()
    return type(node).__name__.strip("_").lower(), ()


def _source(on: From) -> str:
    return f"{on.kind} {shown(named(on.what))}"


def way(node: Node, where: str, number: int) -> Way:
    """The way from a node to one within it.

    Args:
        node: the one above.
        where: the word for the place, as `nodes.children` has it.
        number: of the one within, from 0.
    """
    _, _, name = where.partition(".")
    match node:
        case Switch():
            return Way(shown(name) if name else "otherwise")
        case Split():
            share = 100 * node.arms[name].weight / sum(arm.weight for arm in node.arms.values())
            return Way(f"{shown(name)}: {share:.3g} %")
        case Ensemble():
            return Way(shown(name) + (" (optional)" if name in node.optional else ""))
        case Fallback():
            return Way("on failure" if number else "first")
        case Cascade():
            return Way(f"below {node.below:g}" if number else "first")
        case Sequence_():
            given = node.steps[number].input
            return Way(_INPUTS[given] if number else "first")
        case Shadow():
            copies = "mirror" if node.share == 1 else f"mirror, {100 * node.share:.3g} % of requests"
            return Way(copies, dashed=True) if where == "mirror" else Way("answers")
    return Way()


def limits(timeout: float | None, retry: int) -> tuple[str, ...]:
    """A time of its own, and further attempts, in words."""
    time = () if timeout is None else (f"timeout {timeout:g} s",)
    return (*time, f"retry {retry}") if retry else time
