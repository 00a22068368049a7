"""Which models have to be ready before a route is: all of some, or one of several. Pure.

Told from the graph's description alone. Mirrors of shadows and optional members of ensembles are not needed: a request
is answered without them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

from listener.nodes import Ensemble, Fallback, Named, Node, Ref, Shadow, children, within
from listener.service import Service


@dataclass(frozen=True, slots=True)
class Leaf:
    """One step, whose model has to be ready.

    Attributes:
        step: its name.
        model: Triton's name of the model behind it.
        version: of the model, digits; "" = any.
        besides: it is one of those that the handler uses besides its own.
    """

    step: str
    model: str
    version: str = ""
    besides: bool = False


@dataclass(frozen=True, slots=True)
class AllOf:
    """Each of these; without any, nothing is needed."""

    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these."""

    needs: tuple[Need, ...]


Need: TypeAlias = Leaf | AllOf | OneOf

#: Why a leaf cannot be used, as a sentence; "" = it can.
Lack: TypeAlias = Callable[[Leaf], str]


def of_service(
    service: Service, models: Mapping[str, str], asked: Mapping[str, Collection[str]] = MappingProxyType({})
) -> dict[str, Need]:
    """What each route needs, by its name.

    A node to which nothing refers is there for the `self.models` of handlers, and is needed as well.

    Args:
        service: what is served.
        models: Triton's name of the model behind each step; "" = it has none of its own.
        asked: the names of all models that a step asks; those of `models` may stand there too.
    """
    leaves = {
        name: _step(name, models[name], asked.get(name, ()), step.version) for name, step in service.steps.items()
    }
    used = {each.name for graph in service.graphs.values() for each in within(graph.node) if isinstance(each, Ref)}
    named = [*service.choices, *(name for name in [*service.parts, *service.graphs] if name not in used)]
    return {name: of(Ref(name), service.graphs, leaves) for name in named}


def _step(name: str, own: str, asked: Collection[str], version: str) -> Need:
    besides = [Leaf(name, model, besides=True) for model in sorted(asked) if model != own]
    if own and not besides:
        return Leaf(name, own, version)
    return AllOf((*([Leaf(name, own, version)] if own else []), *besides))


def _at(need: Need, version: str) -> Need:
    """What a step needs for a version of its own model; "" = as it is."""
    if isinstance(need, AllOf):
        return AllOf(tuple(_at(each, version) for each in need.needs))
    if not isinstance(need, Leaf) or need.besides or not version:
        return need
    return replace(need, version=version)


def of(node: Node, graphs: Mapping[str, Named], leaves: Mapping[str, Need], version: str = "") -> Need:
    """What a node needs.

    Args:
        node: without cycles.
        graphs: nodes of several steps that it may refer to, by name.
        leaves: what each step needs, by name.
        version: that has been asked for around it.
    """
    match node:
        case Ref() if need := leaves.get(node.name):
            return _at(need, node.version or version)
        case Ref():
            return of(graphs[node.name].node, graphs, leaves, node.version or version)
        case Fallback():
            return OneOf(tuple(of(each, graphs, leaves, version) for each in node.nodes))
        case Shadow():
            return of(node.node, graphs, leaves, version)
        case Ensemble():
            needed = [member for name, member in node.members.items() if name not in node.optional]
        case _:
            needed = [child for _, child in children(node)]
    return AllOf(tuple(of(each, graphs, leaves, version) for each in needed))


def leaves(need: Need) -> Iterator[Leaf]:
    """Every leaf, those that will do in place of others as well."""
    if isinstance(need, Leaf):
        yield need
    else:
        for each in need.needs:
            yield from leaves(each)


def missing(need: Need, lack: Lack, route: str) -> list[str]:
    """A sentence for each thing that a route waits for; empty = it is ready."""
    if isinstance(need, AllOf):
        return list(dict.fromkeys(said for each in need.needs for said in missing(each, lack, route)))
    reasons = _reasons(need, lack)
    if isinstance(need, Leaf) or not reasons:
        return reasons
    return [f"route {route!r} has no alternative that is ready: {'; '.join(reasons)}"]


def _reasons(need: Need, lack: Lack) -> list[str]:
    """What is missing of all that is in a need; empty = it is met."""
    if isinstance(need, Leaf):
        return [said] if (said := lack(need)) else []
    each = [_reasons(inner, lack) for inner in need.needs]
    if isinstance(need, OneOf) and not all(each):
        return []
    return list(dict.fromkeys(said for reasons in each for said in reasons))
