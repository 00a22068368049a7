"""The graph in Python: functions that make its nodes, for `graph: module.path:name` in listener.yaml.

Where a function takes a node, it also takes text, which means what it does in listener.yaml (`"digits"`, `"digits@2"`,
`"pass"`), and a handler's class. Wrong arguments raise ValueError or TypeError, in one sentence; the start and
`listener check` add the place. docs/reference/listener-yaml.md, "The graph in Python".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from listener.nodes import (
    INPUTS,
    MERGES,
    NODES,
    Arm,
    Cascade,
    Ensemble,
    Fallback,
    From,
    Function,
    Limited,
    Node,
    Pass,
    Ref,
    Sequence_,
    Shadow,
    Split,
    Step,
    Switch,
    Then,
    is_import,
    is_version,
    reference,
)

#: A node, or what stands for one: text as in listener.yaml, or a handler's class.
Given: TypeAlias = Node | str | type[Any]
#: A function of a user's.
Asked: TypeAlias = Callable[..., Any]


def step(
    handler: str | type[Any] | None = None, *, model: str = "", version: str | int = "", offload: str = ""
) -> Step:
    """One handler, or one model as it is.

    Args:
        handler: the class, or `module.path:Class`; None = the model as it is.
        model: in the repository; "" leaves it to the handler.
        version: of the model; "" = Triton chooses.
        offload: `thread`, `process` or `inline`; "" leaves it to the handler.
    """
    if handler is None and not model:
        raise ValueError("a step needs a handler or a model")
    if isinstance(handler, str) and not is_import(handler):
        raise ValueError(f"{handler!r} is not of the form 'module.path:Class'")
    _known("offload", offload, ("", "thread", "process", "inline"))
    return Step(_named(handler) if isinstance(handler, type) else handler, model, _version(version), offload=offload)


def sequence(*nodes: Given | Then) -> Sequence_:
    """One after the other; `then` says where the instances of one come from, if not from the one before."""
    _some(nodes, 1, "sequence")
    return Sequence_(tuple(given if isinstance(given, Then) else Then(node(given)) for given in nodes))


def then(given: Given, input: str = "prediction") -> Then:
    """A member of a sequence; its instances are the former `prediction`, the request's `instance`, or `both`."""
    _known("input", input, INPUTS)
    return Then(node(given), cast("Any", input))


def switch(
    cases: Mapping[str, Given],
    *,
    parameter: str = "",
    header: str = "",
    field: str = "",
    function: Asked | None = None,
    otherwise: Given | None = None,
) -> Switch:
    """One of several, by what the request or each instance says.

    Args:
        cases: the node by the value, in JSON's words where it is no text.
        parameter, header, field, function: one of them; a function takes an instance and the context.
        otherwise: for other values; without it they are answered 400.
    """
    on = _source("a switch", parameter=parameter, header=header, field=field, function=function)
    if on is None:
        raise ValueError("a switch needs one of parameter, header, field, function")
    others = None if otherwise is None else node(otherwise)
    return Switch(on, _nodes(cases, "cases"), others)


def split(arms: Mapping[str, float | Arm], *, parameter: str = "", header: str = "", field: str = "") -> Split:
    """One of several by chance.

    Args:
        arms: a weight by the name of its node, or an `arm` by any name.
        parameter, header, field: one of them, whose value stays on its arm; none = drawn for each request.
    """
    _some(arms, 1, "split")
    made = {_name(name): each if isinstance(each, Arm) else arm(each, name) for name, each in arms.items()}
    return Split(made, _source("a split", parameter=parameter, header=header, field=field))


def arm(weight: float, given: Given) -> Arm:
    """One arm of a split; the weight is above 0."""
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise ValueError(f"the weight {weight!r} is not a number above 0")
    return Arm(float(weight), node(given))


def ensemble(
    members: Mapping[str, Given] | Iterable[str], *, merge: Function = "object", optional: Iterable[str] = ()
) -> Ensemble:
    """All of several at once.

    Args:
        members: the nodes by name, or their names.
        merge: `object`, `mean`, `vote`, or a function of the predictions by member for one instance.
        optional: members whose failure is None in place of a prediction.
    """
    made = _nodes(members if isinstance(members, Mapping) else {name: name for name in members}, "members")
    optional = frozenset(optional)
    if isinstance(merge, str) and not is_import(merge):
        _known("merge", merge, MERGES)
    if unknown := optional - made.keys():
        raise ValueError(f"optional names {', '.join(map(repr, sorted(unknown)))}, which is no member")
    return Ensemble(made, merge, optional)


def fallback(*nodes: Given) -> Fallback:
    """The first that answers."""
    _some(nodes, 2, "fallback")
    return Fallback(tuple(map(node, nodes)))


def shadow(given: Given, mirror: Given, *, share: float = 1.0, limit: int = 16, compare: bool = False) -> Shadow:
    """One answers; the mirror gets a copy once the answer is sent.

    Args:
        given: answers.
        mirror: its answers go nowhere.
        share: of the requests, above 0 up to 1.
        limit: copies on their way at a time.
        compare: log predictions that differ.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share!r}; it has to be above 0 and up to 1")
    if limit < 1:
        raise ValueError(f"limit is {limit!r}; it has to be above 0")
    return Shadow(node(given), node(mirror), float(share), int(limit), compare)


def cascade(*nodes: Given, below: float, score: Function = "") -> Cascade:
    """The next one where the score of a prediction is below a threshold.

    Args:
        nodes: the cheapest first.
        below: the threshold.
        score: the field of a prediction, `a.b`, or a function of one; "" = the greatest of its numbers.
    """
    _some(nodes, 2, "cascade")
    if not math.isfinite(below):
        raise ValueError(f"below is {below!r}, which is no number")
    return Cascade(tuple(map(node, nodes)), float(below), score)


def limited(given: Given, *, timeout: float | None = None, retry: int = 0) -> Limited:
    """A node with a time of its own, in seconds, and further attempts after a 503."""
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f"timeout is {timeout!r}; it has to be a number of seconds above 0")
    if retry < 0:
        raise ValueError(f"retry is {retry!r}; it cannot be below 0")
    return Limited(node(given), timeout, int(retry))


def node(given: Given | object) -> Node:
    """What is given, as a node.

    Raises:
        TypeError: it is none, nor text, nor a handler's class.
        ValueError: the text is not `NAME` or `NAME@VERSION`.
    """
    if isinstance(given, NODES):
        return given
    if isinstance(given, str):
        if (made := reference(given)) is None:
            raise ValueError(f"{given!r} is not NAME or NAME@VERSION")
        return made
    if isinstance(given, type):
        return Step(_named(given))
    raise TypeError(f"{given!r} is no node: it has to be one of listener.compose, a name, or a handler's class")


def _named(handler: type[Any]) -> str:
    """`module.path:Class`, by which a class is found in other processes too."""
    if "." in handler.__qualname__:
        raise ValueError(f"the handler {handler.__qualname__!r} does not stand at the top of its module")
    return f"{handler.__module__}:{handler.__qualname__}"


def _nodes(given: Mapping[str, Given], what: str) -> dict[str, Node]:
    _some(given, 1, what)
    return {_name(name): node(each) for name, each in given.items()}


def _name(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError(f"the name {given!r} is no text; {str(given)!r} is")
    return given


def _source(whose: str, **said: str | Asked | None) -> From | None:
    given = {kind: what for kind, what in said.items() if what}
    if len(given) > 1:
        raise ValueError(f"{whose} takes one of {', '.join(said)}, not {' and '.join(given)}")
    for kind, what in given.items():
        return From(cast("Any", kind), what.lower() if kind == "header" and isinstance(what, str) else what)
    return None


def _version(version: str | int) -> str:
    text = str(version)
    if text and not is_version(text):
        raise ValueError(f"version is {version!r}; it has to be a number from 1")
    return text.lstrip("0")


def _some(given: Any, least: int, what: str) -> None:
    if len(given) < least:
        raise ValueError(
            f"{what} needs {'two or more' if least == 2 else 'at least one'}, and has {len(given) or 'none'}"
        )


def _known(what: str, word: str, words: Iterable[str]) -> None:
    if word not in words:
        raise ValueError(f"{what} is {word!r}; it can be {', '.join(filter(None, words))}")


__all__ = [
    "Pass",
    "Ref",
    "arm",
    "cascade",
    "ensemble",
    "fallback",
    "limited",
    "node",
    "sequence",
    "shadow",
    "split",
    "step",
    "switch",
    "then",
]
