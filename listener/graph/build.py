"""From the description of a graph to the nodes that run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from listener import nodes as described
from listener.call import Call, Reply
from listener.graph.cascade import Cascade, score_at
from listener.graph.choosing import Asked, Source, source
from listener.graph.ensemble import MERGES, Ensemble
from listener.graph.fallback import Fallback
from listener.graph.limits import Limits
from listener.graph.node import Node
from listener.graph.sequence import Sequence_, passed
from listener.graph.shadow import Shadow
from listener.graph.split import Split
from listener.graph.step import Step
from listener.graph.switch import Switch
from listener.hooks import Hook
from listener.nodes import From, Function, Named
from listener.pool import Pool

#: Gives what `module.path:function` names.
Import = Callable[[str], Callable[..., Any]]


class Builder:
    """Makes each named node once.

    Args:
        graphs: the descriptions, by name, without cycles.
        steps: the leaves, by name.
        function: imports one.
        pool: threads for those that are plain.
        timeout: seconds for a mirrored request.

    Attributes:
        shadows: all that were made, to be closed.
    """

    def __init__(
        self,
        graphs: Mapping[str, Named],
        steps: Mapping[str, Step],
        function: Import,
        pool: Pool,
        timeout: float,
    ) -> None:
        self._graphs, self._steps, self._pool = graphs, steps, pool
        self._import, self._timeout = function, timeout
        self._made: dict[str, Node] = {}
        self.shadows: list[Shadow] = []

    def all(self) -> dict[str, Node]:
        """Every graph, by name."""
        return {name: self._named(name) for name in self._graphs}

    def single(self) -> dict[str, Step]:
        """The step of each graph that is nothing but one, with limits around it."""
        found = {name: self._single(graph.node) for name, graph in self._graphs.items()}
        return {name: step for name, step in found.items() if step}

    def _single(self, node: described.Node) -> Step | None:
        match node:
            case described.Limited():
                return self._single(node.node)
            case described.Ref(version="") if graph := self._graphs.get(node.name):
                return self._single(graph.node)
            case described.Ref(version=""):
                return self._steps.get(node.name)
        return None

    def _named(self, name: str) -> Node:
        if step := self._steps.get(name):
            return step
        if name not in self._made:
            self._made[name] = self._node(self._graphs[name].node, name)
        return self._made[name]

    def _node(self, node: described.Node, name: str) -> Node:
        # limits add nothing to the name of what has them, so that they move no key of a split to another arm
        inner = {
            where: self._node(child, name + described.field_of(node, where))
            for where, child in described.children(node)
        }
        match node:
            case described.Ref():
                found = self._named(node.name)
                return _Versioned(found, node.version) if node.version else found
            case described.Pass():
                return passed
            case described.Limited():
                return Limits(name, inner["node"], node.timeout, node.retry)
            case described.Sequence_():
                return Sequence_([(inner[f"steps[{i}]"], step.input) for i, step in enumerate(node.steps)])
            case described.Switch():
                cases = {case: inner[f"cases.{case}"] for case in node.cases}
                return Switch(node.on, self._source(node.on, name), cases, inner.get("otherwise"))
            case described.Split():
                weights = {arm: each.weight for arm, each in node.arms.items()}
                return Split(name, weights, {arm: inner[f"arms.{arm}"] for arm in node.arms}, node.sticky)
            case described.Ensemble():
                members = {member: inner[f"members.{member}"] for member in node.members}
                merge = (MERGES.get(node.merge) if isinstance(node.merge, str) else None) or self._imported(node.merge)
                return Ensemble(name, members, Hook(name, "merge", merge), self._pool, node.optional)
            case described.Fallback():
                return Fallback(name, list(inner.values()))
            case described.Cascade():
                by_path = isinstance(node.score, str) and ":" not in node.score
                score = score_at(str(node.score)) if by_path else self._imported(node.score)
                return Cascade(name, list(inner.values()), node.below, Hook(name, "score", score), self._pool)
            case described.Shadow():
                made = Shadow(name, inner["node"], inner["mirror"], node.share, node.limit, node.compare, self._timeout)
                self.shadows.append(made)
                return made
        raise TypeError(f"{name}: {type(node).__name__} cannot be built")

    def _source(self, on: From, name: str) -> Source:
        if on.kind != "function":
            return source(on)
        return Asked(Hook(name, "its function", self._imported(on.what)), self._pool)

    def _imported(self, given: Function) -> Callable[..., Any]:
        return self._import(given) if isinstance(given, str) else given


class _Versioned:
    """A step with one version of its model."""

    def __init__(self, node: Node, version: str) -> None:
        self._node, self._version = node, version

    async def __call__(self, call: Call) -> Reply:
        node, call = await self.chosen(call)
        return await node(call)

    async def chosen(self, call: Call) -> tuple[Node, Call]:
        """The step, and the call with the version; raises Unavailable where the model does not have it."""
        if isinstance(self._node, Step):
            return self._node, await self._node.at_version(call, self._version)
        return self._node, call._replace(context=call.context._replace(version=self._version))
