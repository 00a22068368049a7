"""The graph as listener.yaml describes it (`node_reader.py`). It runs nothing; `graph/` does.

docs/reference/listener-yaml.md, "The graph".
"""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, TypeAlias, Union

#: `module.path:name` in the service's folder, or what it would name.
Function: TypeAlias = str | Callable[..., Any]


def named(function: Function) -> str:
    """A function's name, as listener.yaml has it."""
    if isinstance(function, str):
        return function
    return f"{function.__module__}:{getattr(function, '__qualname__', repr(function))}"


#: The word for a node that gives back what it got.
PASS = "pass"
#: Of a model's versions; Triton keeps them in 63 bits.
_LAST_VERSION = 2**63 - 1
#: How an ensemble may merge, beside a function.
MERGES = ("object", "mean", "vote")
#: Where the instances of a sequence's node may come from.
INPUTS = ("prediction", "instance", "both")


@dataclass(frozen=True, slots=True)
class From:
    """Something that a request says.

    Attributes:
        kind: `parameter` and `header` are of the whole request, `field` and `function` of each instance.
        what: its name; `a.b` reaches into objects. For `function`: takes an instance and the context.
        line: in listener.yaml; 0 = it stands in no file.
    """

    kind: Literal["parameter", "header", "field", "function"]
    what: Function
    line: int = field(default=0, compare=False)

    @property
    def key(self) -> str:
        """The field of an instance, in which the value lies; "" = it lies elsewhere."""
        return self.what.partition(".")[0] if self.kind == "field" and isinstance(self.what, str) else ""

    @property
    def per_instance(self) -> bool:
        return self.kind in ("field", "function")


@dataclass(frozen=True, slots=True)
class Step:
    """One handler, or one model as it is.

    Attributes:
        handler: `module.path:Class`; None = the model as it is.
        model: in the repository; "" leaves it to the handler's `model`, or to the name of the route.
        version: of the model, digits; "" = Triton chooses.
        line: in listener.yaml; 0 = it stands in no file.
        offload: `thread`, `process` or `inline`; "" leaves it to the handler.
        lines: of its keys in listener.yaml, by key.
    """

    handler: str | None = None
    model: str = ""
    version: str = ""
    line: int = 0
    offload: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Ref:
    """A route or node of listener.yaml by its name, or a model of the repository.

    Attributes:
        name: its name.
        version: of the model behind it, digits; "" = as it is.
        line: in listener.yaml; 0 = it stands in no file.
    """

    name: str
    version: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Pass:
    """The instances are the predictions."""


@dataclass(frozen=True, slots=True)
class Then:
    """A member of a sequence.

    Attributes:
        node: what is asked.
        input: its instances: the former node's `prediction`, the request's `instance`, or an object of `both`.
    """

    node: Node
    input: Literal["prediction", "instance", "both"] = "prediction"


@dataclass(frozen=True, slots=True)
class Sequence_:
    """One after the other: the predictions of each are the instances of the next."""

    steps: Sequence[Then]


@dataclass(frozen=True, slots=True)
class Switch:
    """One of several, by what a request or an instance says. Instances are grouped, sent together and joined in order.

    Attributes:
        on: what decides.
        cases: the node by the value, in JSON's words where it is no text.
        otherwise: for all other values; None = they are the caller's fault.
    """

    on: From
    cases: Mapping[str, Node]
    otherwise: Node | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm of a split; `weight` is above zero."""

    weight: float
    node: Node


@dataclass(frozen=True, slots=True)
class Split:
    """One of several by chance, in proportion to the weights.

    Attributes:
        arms: by name. A key stays on its arm for as long as names and weights stay.
        sticky: the key of a request or an instance; None, or a request without one = drawn anew for each request.
    """

    arms: Mapping[str, Arm]
    sticky: From | None = None


@dataclass(frozen=True, slots=True)
class Ensemble:
    """All of several at once, merged.

    Attributes:
        members: by name.
        merge: `object`, `mean`, `vote`, or a function of the predictions by name for one instance.
        optional: members whose failure is None in place of a prediction.
        line: of `merge` in listener.yaml; 0 = it stands in no file.
    """

    members: Mapping[str, Node]
    merge: Function = "object"
    optional: frozenset[str] = frozenset()
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Fallback:
    """The first that answers: the next one on an error (5xx), a timeout, or a model that is not ready."""

    nodes: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Shadow:
    """One answers; another one gets the same request afterwards, and its answer goes nowhere.

    Attributes:
        node: answers.
        mirror: gets a copy once the answer is sent.
        share: of the requests, above 0 up to 1.
        limit: copies on their way at a time; what comes beyond is dropped and counted.
        compare: log predictions that differ.
    """

    node: Node
    mirror: Node
    share: float = 1.0
    limit: int = 16
    compare: bool = False


@dataclass(frozen=True, slots=True)
class Cascade:
    """The next one where the score of a prediction is below a threshold.

    Attributes:
        nodes: the cheapest first.
        below: the threshold.
        score: where the score lies in a prediction, `a.b`, or a function of one; "" = the prediction's own number, or
            the greatest of its numbers.
        line: of `score` in listener.yaml; 0 = it stands in no file.
    """

    nodes: Sequence[Node]
    below: float
    score: Function = ""
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Limited:
    """A node with a time of its own, and further attempts.

    Attributes:
        node: the node.
        timeout: seconds, all attempts together; None = the request's.
        retry: further attempts where Triton cannot be reached or is not ready (503).
    """

    node: Node
    timeout: float | None = None
    retry: int = 0


@dataclass(frozen=True, slots=True)
class Composed:
    """A node that Python makes (`compose.py`); `importing.expanded` puts that one in its place.

    Attributes:
        source: `module.path:name` of a node, or of a function without arguments that gives one.
        line: in listener.yaml.
    """

    source: str
    line: int = 0


Node: TypeAlias = Union[  # noqa: UP007 - the names stand below their use
    Step, Ref, Pass, Sequence_, Switch, Split, Ensemble, Fallback, Shadow, Cascade, Limited, Composed
]


@dataclass(frozen=True, slots=True)
class Named:
    """A node of listener.yaml with its name.

    Attributes:
        name: its name.
        node: what it is.
        choosable: whether requests can name it.
        alone: an instance that is at fault fails alone, where requests name it.
        line: in listener.yaml; 0 = it stands in no file.
    """

    name: str
    node: Node
    choosable: bool = True
    line: int = 0
    alone: bool = False

    @property
    def field(self) -> str:
        """Its field of listener.yaml."""
        return f"{'routes' if self.choosable else 'nodes'}.{self.name}"


def rebuilt(node: Node, make: Callable[[str, Node], Node]) -> Node:
    """The same node with others in place of those within it.

    Args:
        node: the node.
        make: from the word for a place, `cases.cat`, `arms.new` or `nodes[1]`, and the node there.
    """

    def other(where: str, value: Any) -> Any:
        if isinstance(value, Arm | Then):
            return replace(value, node=make(where, value.node))
        return make(where, value) if isinstance(value, NODES) else value

    made: dict[str, Any] = {}
    for each in fields(node):
        value = getattr(node, each.name)
        if isinstance(value, Mapping):
            made[each.name] = {name: other(f"{each.name}.{name}", item) for name, item in value.items()}
        elif isinstance(value, list | tuple):
            made[each.name] = tuple(other(f"{each.name}[{index}]", item) for index, item in enumerate(value))
        elif isinstance(value, NODES):
            made[each.name] = other(each.name, value)
    return replace(node, **made)


def children(node: Node) -> list[tuple[str, Node]]:
    """The nodes within one, each with the word for its place."""
    found: list[tuple[str, Node]] = []

    def keep(where: str, child: Node) -> Node:
        found.append((where, child))
        return child

    rebuilt(node, keep)
    return found


def within(node: Node) -> Iterator[Node]:
    """The node and all within it; references are not followed."""
    yield node
    for _, child in children(node):
        yield from within(child)


def sources(node: Node) -> Iterator[str]:
    """What the node and all within it import, `module.path:name`."""
    for each in within(node):
        if isinstance(each, Composed):
            yield each.source
        elif isinstance(each, Step) and each.handler:
            yield each.handler
        yield from (called.function for called in functions(each) if isinstance(called.function, str))


class Called(NamedTuple):
    """A function of the user's that a node has.

    Attributes:
        function: as it is said.
        key: of listener.yaml.
        line: in listener.yaml; 0 = it stands in no file.
        argument: the name of what it is called with, besides the context.
    """

    function: Function
    key: str
    line: int
    argument: str


def functions(node: Node) -> Iterator[Called]:
    """Those of one node, without those within it."""
    match node:
        case Switch(on=From(kind="function", what=said, line=line)):
            yield Called(said, "switch.function", line, "instance")
        case Ensemble(merge=said, line=line) if said not in MERGES:
            yield Called(said, "ensemble.merge", line, "predictions")
        case Cascade(score=said, line=line) if callable(said) or ":" in said:
            yield Called(said, "cascade.score", line, "prediction")


NODES = (Step, Ref, Pass, Sequence_, Switch, Split, Ensemble, Fallback, Shadow, Cascade, Limited, Composed)


def reference(text: str, line: int = 0) -> Ref | Pass | None:
    """The node that a text names: `pass`, `NAME` or `NAME@VERSION`; None = it is none of these."""
    if text == PASS:
        return Pass()
    name, at, version = text.rpartition("@")
    if not at:
        return Ref(text, line=line) if text else None
    return Ref(name, version.lstrip("0"), line) if name not in ("", PASS) and is_version(version) else None


def is_import(text: str) -> bool:
    """Whether it has the form `module.path:name`."""
    module, _, name = text.partition(":")
    return all(part.isidentifier() for part in [*module.split("."), name])


def meant_import(text: str) -> str:
    """What a text may mean that is nearly `module.path:name`, such as `module/path.py:name`; "" = nothing."""
    module, _, name = text.partition(":")
    if not name:
        module, _, name = text.rpartition(".")
        if not name[:1].isupper():  # a module alone, or a file
            return ""
    made = f"{module.removesuffix('.py').strip('./').replace('/', '.')}:{name}"
    return made if is_import(made) else ""


def is_version(text: str) -> bool:
    """Whether it is the number of a version; Triton's begin at 1."""
    return text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= _LAST_VERSION


#: Where listener.yaml has other words for the places within a node than its class has.
_WORDS: Mapping[type, tuple[str, str]] = {
    Sequence_: ("steps", "sequence"),
    Switch: ("", "switch."),
    Split: ("", "split."),
    Ensemble: ("", "ensemble."),
    Fallback: ("nodes", "fallback"),
    Shadow: ("", "shadow."),
    Cascade: ("", "cascade."),
}


def field_of(node: Node, where: str) -> str:
    """The field of listener.yaml for a place within a node, such as `.split.arms.new`; "" = the node's own mapping."""
    if isinstance(node, Limited) and not isinstance(node.node, Ref):
        return ""
    ours, theirs = _WORDS.get(type(node), ("", ""))
    return f".{theirs}{where.removeprefix(ours)}"


def name_of(node: Node, where: str) -> str:
    """What the name of a node gets for a place within it: its field, and for what has limits a word of its own."""
    return field_of(node, where) or f".{where}"


def placed(each: Named) -> Iterator[tuple[str, Node]]:
    """All nodes within a named one, each with its field of listener.yaml; references are not followed."""

    def walk(node: Node, at: str) -> Iterator[tuple[str, Node]]:
        yield at, node
        for where, child in children(node):
            yield from walk(child, at + field_of(node, where))

    yield from walk(each.node, f"{each.field}.node" if isinstance(each.node, Ref) else each.field)


def cycles(named: Mapping[str, Named]) -> list[list[str]]:
    """Names that lead back to the first one, which stands at the end again; no reference is in two of them."""
    targets = {name: list(_targets(each, named)) for name, each in named.items()}
    found: list[list[str]] = []
    while loop := _cycle(targets):
        found.append(loop)
        targets[loop[-2]].remove(loop[-1])
    return found


def _targets(each: Named, named: Mapping[str, Named]) -> dict[str, None]:
    names = (node.name for node in within(each.node) if isinstance(node, Ref))
    return dict.fromkeys(name for name in names if name in named)


def _cycle(targets: Mapping[str, Sequence[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(targets).prepare()
    except graphlib.CycleError as error:
        loop: list[str] = error.args[1][:0:-1]  # it goes backwards, and has the first one twice
        first = min(map(list(targets).index, loop))
        at = loop.index(list(targets)[first])
        return [*loop[at:], *loop[:at], loop[at]]
    return []


def too_deep(named: Mapping[str, Named], most: int) -> list[str]:
    """Names of those with more than so many nodes one within the other, references followed; there is no cycle."""
    depths: dict[str, int] = {}

    def depth(node: Node) -> int:
        if isinstance(node, Ref):
            return 1 + depths.get(node.name, 0)
        return 1 + max((depth(child) for _, child in children(node)), default=0)

    targets = {name: _targets(each, named) for name, each in named.items()}
    for name in graphlib.TopologicalSorter(targets).static_order():
        depths[name] = depth(named[name].node)
    return [name for name in named if depths[name] > most and all(depths[to] <= most for to in targets[name])]


def single(node: Node, named: Mapping[str, Named]) -> Step | Ref | None:
    """What a node comes down to through references and limits: a step, or a model by its name; None = it is several.

    There must be no cycle.
    """
    while True:
        if isinstance(node, Limited):
            node = node.node
        elif isinstance(node, Ref) and node.name in named:
            node = named[node.name].node
        else:
            return node if isinstance(node, Step | Ref) else None
