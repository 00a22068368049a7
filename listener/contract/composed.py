"""What is known of the instances and predictions of a route of several steps, told by those of its steps. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from listener.contract.schema import Schema, any_of
from listener.contract.served import Served
from listener.nodes import (
    Cascade,
    Ensemble,
    Fallback,
    Limited,
    Named,
    Node,
    Ref,
    Sequence_,
    Shadow,
    Split,
    Switch,
    within,
)

#: What says nothing of a value.
_WORDS = frozenset({"title", "example"})
#: Of a schema of whole numbers, what does not hold for their mean.
_WHOLE = frozenset({"format", "multipleOf", "enum"})
_NULL: Schema = {"nullable": True, "enum": [None]}


def served(name: str, graphs: Mapping[str, Named], steps: Mapping[str, Served]) -> Served:
    """A route of several steps.

    Args:
        name: the route.
        graphs: what listener.yaml says of everything with several steps, by name, without cycles.
        steps: what is known of each step, by name.
    """
    told = _Told(graphs, steps)
    node = graphs[name].node
    found = told.example(node)
    return Served(
        name,
        "",
        None,
        told.instance(node) or {},
        told.prediction(node) or {},
        example=found.example if found else None,
        example_size=found.example_size if found else 0,
        datatypes_of_steps=frozenset().union(*(each.datatypes for each in told.steps(node))),
    )


class _Told:
    """What is told of nodes; None = nothing."""

    def __init__(self, graphs: Mapping[str, Named], steps: Mapping[str, Served]) -> None:
        self._graphs, self._steps = graphs, steps

    def steps(self, node: Node) -> Iterable[Served]:
        """Every step within a node."""
        for each in within(node):
            if isinstance(each, Ref):
                if step := self._steps.get(each.name):
                    yield step
                elif graph := self._graphs.get(each.name):
                    yield from self.steps(graph.node)

    def instance(self, node: Node) -> Schema | None:
        match node:
            case Ref() if step := self._steps.get(node.name):
                return step.told_instance
            case Ref() if graph := self._graphs.get(node.name):
                return self.instance(graph.node)
            case Switch():
                needed = node.otherwise is None
                return _one_of([_with(node.on.key, self.instance(each), needed) for each in _branches(node)])
            case Split():  # one of these takes it, and nobody knows which
                key = node.sticky.key if node.sticky else ""
                return _all_of([_with(key, self.instance(each), needed=False) for each in _branches(node)])
            case Ensemble():
                return _all_of([self.instance(each) for each in node.members.values()])
            case Fallback() | Cascade():
                return _all_of([self.instance(each) for each in node.nodes])
            case Sequence_():
                return self.instance(node.steps[0].node)
            case Limited() | Shadow():
                return self.instance(node.node)
        return None

    def prediction(self, node: Node) -> Schema | None:
        match node:
            case Ref() if step := self._steps.get(node.name):
                return step.told_prediction
            case Ref() if graph := self._graphs.get(node.name):
                return self.prediction(graph.node)
            case Switch() | Split():
                return _one_of([self.prediction(each) for each in _branches(node)])
            case Fallback() | Cascade():
                return _one_of([self.prediction(each) for each in node.nodes])
            case Ensemble():
                return self._merged(node)
            case Sequence_():
                return self.prediction(node.steps[-1].node)
            case Limited() | Shadow():
                return self.prediction(node.node)
        return None

    def _merged(self, node: Ensemble) -> Schema | None:
        made = {name: self.prediction(member) for name, member in node.members.items()}
        if node.merge == "object":
            either = {
                name: any_of(schema or {}, _NULL) if name in node.optional else schema or {}
                for name, schema in made.items()
            }
            return {"type": "object", "properties": either, "required": list(either), "additionalProperties": False}
        if node.merge not in ("vote", "mean"):
            return None
        schemas = [_averaged(schema) if node.merge == "mean" else schema for schema in made.values()]
        # without any member that answers there is nothing to merge
        return _one_of([*schemas, *([_NULL] if node.optional.issuperset(made) else [])])

    def example(self, node: Node) -> Served | None:
        """The first step that has an example that is one for the node too."""
        match node:
            case Ref() if step := self._steps.get(node.name):
                return step if step.example_size else None
            case Ref() if graph := self._graphs.get(node.name):
                return self.example(graph.node)
            case Switch() if node.on.per_instance:
                return None  # a step's example need not say what the switch asks for
            case Switch() | Split():
                found = [self.example(each) for each in _branches(node)]
            case Ensemble():
                found = [self.example(each) for each in node.members.values()]
            case Fallback() | Cascade():
                found = [self.example(each) for each in node.nodes]
            case Sequence_():
                return self.example(node.steps[0].node)
            case Limited() | Shadow():
                return self.example(node.node)
            case _:
                return None
        return next((each for each in found if each), None)


def _branches(node: Switch | Split) -> list[Node]:
    if isinstance(node, Split):
        return [arm.node for arm in node.arms.values()]
    return [*node.cases.values(), *([node.otherwise] if node.otherwise else [])]


def _with(key: str, schema: Schema | None, needed: bool) -> Schema | None:
    """What a node takes, with the field that says the way to it; "" = that lies elsewhere."""
    if not key or schema is None or key in schema.get("properties", ()):
        return schema
    forms = schema.get("anyOf", [schema])
    objects = [form for form in forms if form.get("type") == "object" and "b64" not in form.get("properties", {})]
    made = [_with_field(form, key, needed) for form in objects]
    if not needed:
        made = [form for form in forms if form not in objects] + made
    elif not made:
        made = [_with_field({"type": "object"}, key, needed)]
    return made[0] if len(made) == 1 else any_of(*made)


def _with_field(schema: Schema, key: str, needed: bool) -> Schema:
    made = {**schema, "properties": {**schema.get("properties", {}), key: {}}}
    return {**made, "required": [*schema.get("required", ()), key]} if needed else made


def _one_of(schemas: list[Schema | None]) -> Schema | None:
    """What one of them says; without one of them, it may be anything."""
    known = _distinct(schema for schema in schemas if schema is not None)
    if None in schemas or not known:
        return None
    return known[0] if len(known) == 1 else any_of(*known)


def _all_of(schemas: list[Schema | None]) -> Schema | None:
    """What all of them say that say something."""
    known = _distinct(schema for schema in schemas if schema is not None)
    if not known:
        return None
    return known[0] if len(known) == 1 else {"allOf": known}


def _distinct(schemas: Iterable[Schema]) -> list[Schema]:
    """Without those that say the same in other words, as two models of one shape do."""
    found: list[Schema] = []
    for schema in schemas:
        bare = {key: value for key, value in schema.items() if key not in _WORDS}
        same = [index for index, each in enumerate(found) if {k: v for k, v in each.items() if k not in _WORDS} == bare]
        if not same:
            found.append(schema)
        elif found[same[0]] != schema:
            found[same[0]] = bare
    return found


def _averaged(schema: Any) -> Any:
    """The schema of a mean of what a schema describes."""
    if isinstance(schema, list):
        return [_averaged(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "integer":
        return {"type": "number", **{key: value for key, value in schema.items() if key not in {"type", *_WHOLE}}}
    return {key: _averaged(value) for key, value in schema.items()}
