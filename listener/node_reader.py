"""From listener.yaml to the classes of `nodes.py`, with file and line for every mistake.

docs/reference/listener-yaml.md, "The graph".
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import yaml

from listener.nodes import (
    INPUTS,
    MERGES,
    PASS,
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
    Sequence_,
    Shadow,
    Split,
    Step,
    Switch,
    Then,
    is_import,
    is_version,
    meant_import,
    reference,
)
from listener.sections import Section, is_null

#: Of an arm; with more, their sum would not be a number for ever.
_GREATEST_WEIGHT = 1_000_000_000
_VERSIONS = "a version is a whole number from 1 on"


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
        if is_null(value):
            section.complain(f"{what} is empty; it has to be a node")
        return Pass()
    return _mapping(section, at_top=False)


def _reference(text: str, line: int, what: str, above: Section) -> Node:
    if (found := reference(text, line)) is not None:
        return found
    if not text:  # whoever reads the names says so
        return Pass()
    name, _, version = text.rpartition("@")
    if not name or not version.isascii() or not version.isdigit():
        why = ", which is not NAME or NAME@VERSION"
    else:
        why = f"; {PASS!r} is no model and has no versions" if name == PASS else f"; {_VERSIONS}"
    above.complain_at(line, f"{what} is {text!r}{why}")
    return Pass()


def _mapping(section: Section, at_top: bool) -> Node:
    """A node with its options."""
    kinds = [kind for kind in (*_KINDS, "handler", "model") if kind in section.nodes]
    if {"handler", "model"} >= set(kinds):
        node = _step(section, needs_name=not at_top)
    else:
        if len(kinds) > 1:
            section.complain(f"{section.what} is of several kinds: {', '.join(kinds)}", kinds[1])
        node = _KINDS[kinds[0]](section)
    timeout, retry = section.number("timeout", 0, 3600), section.whole("retry", 0, 100)
    for kind in (*_KINDS, "handler", "model"):
        section.knows(kind)
    section.refuse_others(lambda key: "only routes have it" if key == "errors" else "")
    return node if timeout is None and retry is None else Limited(node, timeout, retry or 0)


def _step(section: Section, needs_name: bool) -> Node:
    handler, model = section.text("handler", None), section.text("model", None)
    version, offload = section.text("version", "") or "", section.one_of("offload", "thread", "process", "inline")
    if handler is not None and not is_import(handler):
        section.complain(f"{handler!r} is not of the form 'module.path:Class'{_import_hint(handler)}", key="handler")
    if version and not is_version(version):
        section.complain(f"'version' of {section.what} is {version!r}; {_VERSIONS}", "version")
    if needs_name and handler is None and model is None:
        section.complain(f"{section.what} has no kind; known are handler, model, {', '.join(_KINDS)}")
    return Step(handler, model or "", version.lstrip("0"), section.line, offload, section.lines)


def _import_hint(text: str) -> str:
    return f"; did you mean {meant!r}?" if (meant := meant_import(text)) else ""


def is_like_a_node(above: Section, key: str) -> bool:
    """Whether a key has a mapping with the keys of a node."""
    _, value = above.nodes[key]
    keys = {name.value for name, _ in value.value} if isinstance(value, yaml.MappingNode) else set()
    return any(kind in keys for kind in (*_KINDS, "handler", "model"))


def _other(section: Section) -> Node:
    return _inner(section, "node")


def _sequence(section: Section) -> Node:
    steps = []
    for index, (line, value) in enumerate(section.items("sequence")):
        what, given = f"{section.what}.sequence[{index}]", "prediction"
        if isinstance(value, yaml.MappingNode):
            value, word = _without(value, "input", what, section)
            given = "prediction" if word is None else word
            if given not in INPUTS:
                section.complain_at(line, f"'input' of {what} is {given!r}; it can be {', '.join(INPUTS)}")
        steps.append(Then(_node(value, line, what, section), cast("Any", given)))
    return Sequence_(tuple(steps))


def _switch(section: Section) -> Node:
    inner = section.section("switch")
    on = _source(inner, ("parameter", "header", "field", "function"))
    cases = _cases(inner)
    otherwise = _inner(inner, "otherwise") if "otherwise" in inner.nodes else None
    inner.refuse_others()
    return Switch(on or From("field", ""), cases, otherwise)


def _cases(section: Section) -> dict[str, Node]:
    inner = section.mapping("cases")
    for text, (line, _) in inner.nodes.items():
        if (sentence := _never(inner.keys[text])) is not None:
            section.complain_at(line, f"{inner.what} has the case {text!r}, {sentence}")
    return _nodes(inner)


def _split(section: Section) -> Node:
    inner, arms = section.section("split"), {}
    for name, (line, value) in _by_name(inner, "arms").nodes.items():
        what, weight = f"{inner.what}.arms.{name}", value.value if isinstance(value, yaml.ScalarNode) else None
        if isinstance(value, yaml.MappingNode):
            value, weight = _without(value, "weight", what, inner)
        own = isinstance(value, yaml.MappingNode) and value.value
        node = _node(value, line, what, inner) if own else _reference(name, line, what, inner)
        arms[name] = Arm(_weight(weight, line, what, inner), node)
    by = _sticky(inner) if "sticky" in inner.nodes else None
    inner.refuse_others()
    return Split(arms, by)


def _sticky(section: Section) -> From | None:
    value = section.take("sticky")
    if isinstance(value, yaml.ScalarNode) and not is_null(value):
        sentence = f"'sticky' of {section.what} is {value.value!r}; say where that lies: {{field: {value.value}}}"
        section.complain(f"{sentence}, or header, or parameter", "sticky")
        return None
    inner = section.section("sticky")
    by = _source(inner, ("parameter", "header", "field"))
    inner.refuse_others()
    return by


def _weight(text: str | None, line: int, what: str, above: Section) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 < value <= _GREATEST_WEIGHT:
        hint = "; leave the arm out for no requests" if value == 0 else ""
        above.complain_at(line, f"the weight of {what} is not a number above 0 and up to {_GREATEST_WEIGHT}{hint}")
        return 1.0
    return value


def _ensemble(section: Section) -> Node:
    inner = section.section("ensemble")
    members: Mapping[str, Node]
    if isinstance(inner.nodes.get("members", (0, None))[1], yaml.SequenceNode):
        members = _listed(inner)
    else:
        members = _nodes(_by_name(inner, "members"))
    merge, optional = inner.text("merge", "object") or "object", frozenset(_words(inner, "optional"))
    if merge not in MERGES and not is_import(merge):
        inner.complain(
            f"'merge' of {inner.what} is {merge!r}; it can be {', '.join(MERGES)}, or module.path:function", "merge"
        )
    for word in sorted(optional - members.keys()):
        inner.complain(f"'optional' of {inner.what} names {word!r}, which is no member", "optional")
    inner.refuse_others()
    return Ensemble(members, merge, optional, inner.line_of("merge"))


def _listed(section: Section) -> dict[str, Node]:
    """The members of an ensemble as a list of names."""
    found: dict[str, Node] = {}
    for index, (line, value) in enumerate(section.items("members")):
        what = f"{section.what}.members[{index}]"
        if not isinstance(value, yaml.ScalarNode):
            section.complain_at(line, f"{what} is not a name; give it one: {{a: NODE, b: NODE}}")
            continue
        node = _node(value, line, what, section)
        if value.value in found:
            section.complain_at(
                line, f"{what} is {value.value!r}, which stands there twice; give them names: {{a: NODE, b: NODE}}"
            )
        found[value.value] = node
    return found


def _composed(section: Section) -> Node:
    return Composed(_function(section, "graph"), section.line_of("graph"))


def _fallback(section: Section) -> Node:
    return Fallback(_list(section, "fallback"))


def _shadow(section: Section) -> Node:
    inner = section.section("shadow")
    node, mirror = _inner(inner, "node"), _inner(inner, "mirror")
    share, limit, compare = inner.number("share", 0, 1), inner.whole("limit", 1, 10_000), inner.flag("compare")
    inner.refuse_others()
    return Shadow(node, mirror, 1.0 if share is None else share, 16 if limit is None else limit, compare)


def _cascade(section: Section) -> Node:
    inner = section.section("cascade")
    nodes, score = _list(inner, "nodes"), inner.text("score", "") or ""
    below = inner.number("below")
    if below is None and "below" not in inner.nodes:
        inner.complain(f"'below' of {inner.what} is missing; it is the score that is good enough")
    if ":" in score and not is_import(score):
        inner.complain(f"{score!r} is neither a field nor of the form 'module.path:function'", "score")
    inner.refuse_others()
    return Cascade(nodes, below or 0.0, score, inner.line_of("score"))


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
    line = section.line_of(kind)
    return From(kind, text.lower() if kind == "header" and isinstance(text, str) else text, line)


def _function(section: Section, key: str) -> str:
    text = section.text(key, "") or ""
    if text and not is_import(text):
        section.complain(f"{text!r} is not of the form 'module.path:function'{_import_hint(text)}", key)
    return text


def _never(key: yaml.ScalarNode) -> str | None:
    """What is wrong with a case that no value has, as JSON writes values; None where it can have one.

    A case in quotes is a text, whatever it looks like.
    """
    if key.style is not None:
        return None
    if not key.value:
        return 'which is empty; write "" for the empty text'
    kind, text = key.tag.rpartition(":")[2], key.value.lower()
    if kind == "null" or (kind == "bool" and text in ("true", "false")):
        json = "null" if kind == "null" else text
    elif kind in ("int", "float"):
        json = _json_number(key.value)
    else:
        return None
    hint = f"which JSON writes {json}; write that, or {key.value!r} in quotes for the text"
    return None if key.value == json else hint


def _json_number(text: str) -> str:
    """As a switch writes numbers, whole ones without a fraction."""
    with contextlib.suppress(ValueError, OverflowError):
        value = float(text)
        return str(int(value)) if value.is_integer() else repr(value)
    return "in another way"


def _inner(section: Section, key: str) -> Node:
    line, value = section.nodes.get(key, (section.line, None))
    section.take(key)
    return _node(value, line, f"{section.what}.{key}", section)


def _by_name(section: Section, key: str) -> Section:
    """A mapping, of at least one name."""
    found = section.mapping(key)
    if "" in found.nodes:
        found.complain(f"{found.what} has an empty name", "")
    return found


def _list(section: Section, key: str) -> tuple[Node, ...]:
    items = section.items(key)
    if len(items) == 1:
        section.complain(f"{key!r} of {section.what} has but one node; it needs two or more", key)
    return tuple(_node(value, line, f"{section.what}.{key}[{i}]", section) for i, (line, value) in enumerate(items))


def _nodes(section: Section) -> dict[str, Node]:
    return {
        name: _node(value, line, f"{section.what}.{name}", section) for name, (line, value) in section.nodes.items()
    }


def _words(section: Section, key: str) -> list[str]:
    found = []
    for line, value in section.items(key) if key in section.nodes else ():
        if isinstance(value, yaml.ScalarNode):
            found.append(str(value.value))
        else:
            section.complain_at(line, f"{key!r} of {section.what} has something that is no name")
    return found


def _without(mapping: yaml.MappingNode, key: str, what: str, above: Section) -> tuple[yaml.MappingNode, str | None]:
    """A mapping without one of its keys, and that one's text; "" where it is none."""
    values = [value for name, value in mapping.value if name.value == key]
    said = [str(value.value) if isinstance(value, yaml.ScalarNode) else "" for value in values]
    if len(values) > 1:
        above.complain_at(values[1].start_mark.line + 1, f"{key!r} stands twice in {what}")
    rest = [(name, value) for name, value in mapping.value if name.value != key]
    made = yaml.MappingNode(mapping.tag, rest, mapping.start_mark, mapping.end_mark)
    return made, said[-1] if said else None
