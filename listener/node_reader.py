"""From listener.yaml to the classes of `nodes.py`, with file and line for every mistake.

docs/reference/listener-yaml.md, "The graph".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import yaml

from listener.nodes import (
    INPUTS,
    MERGES,
    Arm,
    Cascade,
    Composed,
    Ensemble,
    Fallback,
    From,
    Function,
    Limited,
    Named,
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
from listener.sections import Section, is_null


def named(name: str, section: Section, choosable: bool) -> Named:
    """One entry of `routes` or of `nodes`."""
    alone = choosable and section.one_of("errors", "request", "per_instance") == "per_instance"
    return Named(name, _mapping(section, at_top=True), choosable, section.line, alone)


def _node(value: yaml.Node | None, line: int, what: str, above: Section) -> Node:
    """A node within another one: text, or a mapping."""
    if value is None:
        above.complain(f"{what} is missing")
        return Pass()
    if isinstance(value, yaml.ScalarNode) and not is_null(value) and value.value:
        return _reference(str(value.value), line, what, above)
    section = Section(value, above.file, what, above.mistakes)
    section.line = line
    if not isinstance(value, yaml.MappingNode):
        if is_null(value) or isinstance(value, yaml.ScalarNode):
            section.complain(f"{what} is empty; it has to be a node")
        return Pass()
    return _mapping(section, at_top=False)


def _reference(text: str, line: int, what: str, above: Section) -> Node:
    if (found := reference(text, line)) is None:
        above.complain_at(line, f"{what} is {text!r}, which is not NAME or NAME@VERSION")
        return Pass()
    return found


def _mapping(section: Section, at_top: bool) -> Node:
    """A node with its options."""
    kinds = [kind for kind in (*_KINDS, "handler", "model") if kind in section.nodes]
    if {"handler", "model"} >= set(kinds):
        node = _step(section, needs_name=not at_top)
    else:
        if len(kinds) > 1:
            section.complain(f"{section.what} is of several kinds: {', '.join(kinds)}", kinds[1])
        node = _KINDS[kinds[0]](section)
    timeout, retry = section.number("timeout", 0, 3600), section.number("retry", 0, 100)
    if retry is not None and retry != int(retry):
        section.complain(f"'retry' of {section.what} is not a whole number", "retry")
    for kind in (*_KINDS, "handler", "model"):
        section.knows(kind)
    section.refuse_others()
    return node if timeout is None and retry is None else Limited(node, timeout, int(retry or 0))


def _step(section: Section, needs_name: bool) -> Node:
    handler, model = section.text("handler", None), section.text("model", None)
    version, offload = section.text("version", "") or "", section.one_of("offload", "thread", "process", "inline")
    if handler is not None and not is_import(handler):
        section.complain(f"{handler!r} is not of the form 'module.path:Class'", key="handler")
    if version and not is_version(version):
        section.complain(f"'version' of {section.what} is {version!r}; it has to be a number", "version")
    if needs_name and handler is None and model is None:
        section.complain(f"{section.what} has no kind; known are handler, model, {', '.join(_KINDS)}")
    return Step(handler, model or "", version.lstrip("0"), section.line, offload)


def _other(section: Section) -> Node:
    return _inner(section, "node")


def _sequence(section: Section) -> Node:
    steps = []
    for index, (line, value) in enumerate(section.items("sequence")):
        what, given = f"{section.what}.sequence[{index}]", "prediction"
        if isinstance(value, yaml.MappingNode):
            value, word = _without(value, "input")
            given = "prediction" if word is None else word
            if given not in INPUTS:
                section.complain_at(line, f"'input' of {what} is {given!r}; it can be {', '.join(INPUTS)}")
        steps.append(Then(_node(value, line, what, section), cast("Any", given)))
    return Sequence_(tuple(steps))


def _switch(section: Section) -> Node:
    inner = section.section("switch")
    on = _source(inner, ("parameter", "header", "field", "function"))
    cases = _nodes(inner, "cases")
    otherwise = _inner(inner, "otherwise") if "otherwise" in inner.nodes else None
    inner.refuse_others()
    return Switch(on or From("field", ""), cases, otherwise)


def _split(section: Section) -> Node:
    inner, arms = section.section("split"), {}
    for name, (line, value) in inner.mapping("arms").items():
        what = f"{inner.what}.arms.{name}"
        node: Node = Ref(name, line=line)
        weight = value.value if isinstance(value, yaml.ScalarNode) else None
        if isinstance(value, yaml.MappingNode):
            value, weight = _without(value, "weight")
            if value.value:
                node = _node(value, line, what, inner)
        arms[name] = Arm(_weight(weight, line, what, inner), node)
    sticky = inner.section("sticky") if "sticky" in inner.nodes else None
    by = _source(sticky, ("parameter", "header", "field")) if sticky else None
    if sticky:
        sticky.refuse_others()
    inner.refuse_others()
    return Split(arms, by)


def _weight(text: str | None, line: int, what: str, above: Section) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        above.complain_at(line, f"the weight of {what} is not a number above 0")
        return 1.0
    return value


def _ensemble(section: Section) -> Node:
    inner = section.section("ensemble")
    members: Mapping[str, Node]
    if isinstance(inner.nodes.get("members", (0, None))[1], yaml.SequenceNode):
        listed = inner.items("members")
        members = {
            str(value.value): _node(value, line, f"{inner.what}.members[{index}]", inner)
            for index, (line, value) in enumerate(listed)
        }
        if len(members) < len(listed):
            inner.complain(
                f"{inner.what}.members has two of one name; give them names: {{a: NODE, b: NODE}}", "members"
            )
    else:
        members = _nodes(inner, "members")
    merge, optional = inner.text("merge", "object") or "object", frozenset(_words(inner, "optional"))
    if merge not in MERGES and not is_import(merge):
        inner.complain(
            f"'merge' of {inner.what} is {merge!r}; it can be {', '.join(MERGES)}, or module.path:function", "merge"
        )
    for word in sorted(optional - members.keys()):
        inner.complain(f"'optional' of {inner.what} names {word!r}, which is no member", "optional")
    inner.refuse_others()
    return Ensemble(members, merge, optional)


def _composed(section: Section) -> Node:
    return Composed(_function(section, "graph"), section.nodes["graph"][0])


def _fallback(section: Section) -> Node:
    return Fallback(_list(section, "fallback"))


def _shadow(section: Section) -> Node:
    inner = section.section("shadow")
    node, mirror = _inner(inner, "node"), _inner(inner, "mirror")
    share, limit, compare = inner.number("share", 0, 1), inner.number("limit", 0, 10_000), inner.flag("compare")
    inner.refuse_others()
    return Shadow(node, mirror, 1.0 if share is None else share, 16 if limit is None else int(limit), compare)


def _cascade(section: Section) -> Node:
    inner = section.section("cascade")
    nodes, score = _list(inner, "nodes"), inner.text("score", "") or ""
    below = inner.number("below", float("-inf"))
    if below is None and "below" not in inner.nodes:
        inner.complain(f"'below' of {inner.what} is missing; it is the score that is good enough")
    inner.refuse_others()
    return Cascade(nodes, below or 0.0, score)


_KINDS: Mapping[str, Callable[[Section], Node]] = {
    "node": _other,
    "sequence": _sequence,
    "switch": _switch,
    "split": _split,
    "ensemble": _ensemble,
    "fallback": _fallback,
    "shadow": _shadow,
    "cascade": _cascade,
    "graph": _composed,
}


def _source(section: Section, kinds: tuple[str, ...]) -> From | None:
    """Where a value comes from: exactly one of some keys."""
    for kind in kinds:
        section.knows(kind)
    given = [kind for kind in kinds if kind in section.nodes]
    if len(given) != 1:
        section.complain(f"{section.what} needs one of {', '.join(kinds)}")
        return None
    kind = cast("Any", given[0])
    text: Function = _function(section, kind) if kind == "function" else section.text(kind, "") or ""
    return From(kind, text.lower() if kind == "header" and isinstance(text, str) else text)


def _function(section: Section, key: str) -> str:
    text = section.text(key, "") or ""
    if not is_import(text):
        section.complain(f"{text!r} is not of the form 'module.path:function'", key)
    return text


def _inner(section: Section, key: str) -> Node:
    line, value = section.nodes.get(key, (section.line, None))
    section.take(key)
    return _node(value, line, f"{section.what}.{key}", section)


def _list(section: Section, key: str) -> tuple[Node, ...]:
    items = section.items(key)
    if len(items) == 1:
        section.complain(f"{key!r} of {section.what} has but one node; it needs two or more", key)
    return tuple(_node(value, line, f"{section.what}.{key}[{i}]", section) for i, (line, value) in enumerate(items))


def _nodes(section: Section, key: str) -> dict[str, Node]:
    return {
        name: _node(value, line, f"{section.what}.{key}.{name}", section)
        for name, (line, value) in section.mapping(key).items()
    }


def _words(section: Section, key: str) -> list[str]:
    return [str(value.value) for _, value in section.items(key)] if key in section.nodes else []


def _without(mapping: yaml.MappingNode, key: str) -> tuple[yaml.MappingNode, str | None]:
    """A mapping without one of its keys, and that one's text."""
    said = [str(value.value) for name, value in mapping.value if name.value == key]
    rest = [(name, value) for name, value in mapping.value if name.value != key]
    made = yaml.MappingNode(mapping.tag, rest, mapping.start_mark, mapping.end_mark)
    return made, said[-1] if said else None
