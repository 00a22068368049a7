"""Services whose answers tell which way they came: every node writes its digit behind the number that it gets.

An item is a number and a kind, 1 to 3. It travels in one of two forms, and the same table of nodes is made for both:

* an object, `{"v": [7], "kind": [1]}`, for Python models with an input and an output for each of its fields;
* a row, `[7, 1]`, for ONNX models with one input and one output, whose answers travel as arrays.

So 7 that comes back as 713 has been through the model of digit 1 and then through that of digit 3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from listener.call import Json

#: Number and kind.
Item: TypeAlias = tuple[float, float]
#: What a request says beside its instances: `parameter` and `header`.
Said: TypeAlias = Mapping[str, str]
#: Everything that an item may become; a split alone leaves a choice.
Says: TypeAlias = Callable[[Item, Said], frozenset[Item]]

#: The digit of each model; `v` has two versions.
DIGITS = {"a": (1,), "b": (2,), "c": (3,), "v": (4, 5)}
#: Those of handlers.
HOOKED, ALONE, THREADED, APART = 6, 7, 8, 9

OBJECTS = """
import numpy as np
import triton_python_backend_utils as pb

DIGITS = {digits}


class TritonPythonModel:
    def initialize(self, args):
        self.digit = DIGITS[args["model_name"][1:]][int(args["model_version"]) - 1]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        v, kind = (pb.get_input_tensor_by_name(request, name).as_numpy() for name in ("v", "kind"))
        return pb.InferenceResponse([pb.Tensor("v", v * 10 + self.digit), pb.Tensor("kind", kind)])
"""

HANDLERS = """
import asyncio
import threading
import time

import numpy as np

from listener import Handler, Reply
from listener.errors import Unavailable


def read(item):
    return (item["v"][0], item["kind"][0]) if hasattr(item, "keys") else (item[0], item[1])


def like(item, v, kind):
    return {"v": [float(v)], "kind": [int(kind)]} if hasattr(item, "keys") else [float(v), float(kind)]


def written(item, digit):
    v, kind = read(item)
    return like(item, v * 10 + digit, kind)


def kind(item, context=None):
    return read(item)[1]


def odd(item, context):
    return int(kind(item)) % 2 == 1


async def word(item, context):
    await asyncio.sleep(0)
    return ["", "one", "two", "three"][int(kind(item))]


def united(row):
    (v, kind), *rest = [read(item) for item in row.values() if item is not None]
    for more, _ in rest:
        v = v * 100 + more % 100
    return like(next(iter(row.values())), v, kind)


class Hooked(Handler):
    digit = 6

    def preprocess(self, item):
        v, kind = read(item)
        if len(self.models[self.model].spec.inputs) == 1:
            return {"X": np.array([v, kind], np.float64)}
        return {"v": np.array([v], np.float64), "kind": np.array([kind], np.int64)}

    def postprocess(self, outputs):
        if "Y" in outputs:
            return written(outputs["Y"].tolist(), self.digit)
        return written(outputs, self.digit)


class Apart(Hooked):
    digit = 9


class Alone(Handler):
    async def predict(self, call):
        return Reply([written(item, 7) for item in call.instances])


class Threaded(Handler):
    def predict(self, call):
        return Reply([written(item, 8) for item in call.instances])


class Both(Handler):
    async def predict(self, call):
        pairs = [(read(each["instance"])[0], each["prediction"]) for each in call.instances]
        return Reply([like(made, read(made)[0] * 100 + given % 100, read(made)[1]) for given, made in pairs])


class Tidied(Handler):
    async def predict(self, call):
        return Reply([like(item, *read(item)) for item in call.instances])


class United(Handler):
    async def predict(self, call):
        return Reply([united(row) for row in call.instances])


class Fails(Handler):
    async def predict(self, call):
        raise RuntimeError("on purpose")


class Gone(Handler):
    async def predict(self, call):
        raise Unavailable("gone on purpose")


class Hangs(Handler):
    async def predict(self, call):
        await asyncio.Event().wait()


class Blocks(Handler):
    def predict(self, call):
        threading.Event().wait()
"""


@dataclass(frozen=True)
class Form:
    """One of the two forms of an item."""

    letter: str  # the first of its models' names
    item: Callable[[Item], Json]
    read: Callable[[Json], Item]
    kind: Json  # what gives the kind of an instance, for a switch
    words: tuple[str, str]  # kinds 1 and 2 as its cases
    score: str  # likewise, for a cascade
    sticky: Json  # for a split

    def model(self, name: str) -> str:
        return self.letter + name


OBJECT = Form(
    "o",
    lambda item: {"v": [item[0]], "kind": [int(item[1])]},
    lambda made: (made["v"][0], made["kind"][0]),
    {"field": "kind"},
    ("1", "2"),
    "kind",
    {"field": "v"},
)
ROW = Form(
    "r",
    list,
    lambda made: (made[0], made[1]),
    {"function": "handlers.paths:kind"},
    ("1", "2"),
    "handlers.paths:kind",
    {"header": "x-user"},
)
FORMS = {"object": OBJECT, "row": ROW}


@dataclass(frozen=True)
class Way:
    """A node as listener.yaml has it, and what it says to an item."""

    node: Json
    says: Says


Kind: TypeAlias = Callable[[Form, Way], Way]


def digit(*digits: int) -> Says:
    """Writes these digits."""

    def says(item: Item, said: Said) -> frozenset[Item]:
        v, kind = item
        for each in digits:
            v = v * 10 + each
        return frozenset({(v, kind)})

    return says


def then(*parts: Says) -> Says:
    """One after the other."""

    def says(item: Item, said: Said) -> frozenset[Item]:
        items = frozenset({item})
        for part in parts:
            items = frozenset(made for each in items for made in part(each, said))
        return items

    return says


def either(*parts: Says) -> Says:
    return lambda item, said: frozenset(made for part in parts for made in part(item, said))


def chosen(key: Callable[[Item, Said], Any], cases: Mapping[Any, Says], otherwise: Says) -> Says:
    return lambda item, said: cases.get(key(item, said), otherwise)(item, said)


def merged(merge: Callable[[Item, Item], Item], one: Says, two: Says) -> Says:
    return lambda item, said: frozenset(merge(x, y) for x in one(item, said) for y in two(item, said))


def mean(x: Item, y: Item) -> Item:
    return (x[0] + y[0]) / 2, x[1]


def united(x: Item, y: Item) -> Item:
    return x[0] * 100 + y[0] % 100, x[1]


def same(item: Item, said: Said) -> frozenset[Item]:
    return frozenset({item})


A, B, C = (digit(*DIGITS[name]) for name in "abc")
_HANDLERS = "handlers.paths:"


def step(form: Form, handler: str, **more: Json) -> Json:
    return {"handler": _HANDLERS + handler, "model": form.model("a"), **more}


# What has no node within it.

LEAVES: Mapping[str, Callable[[Form], Way]] = {
    "name": lambda form: Way(form.model("a"), A),
    "model": lambda form: Way({"model": form.model("b")}, B),
    "pass": lambda form: Way("pass", same),
    "version": lambda form: Way(f"{form.model('v')}@1", digit(DIGITS["v"][0])),
    "latest": lambda form: Way(form.model("v"), digit(DIGITS["v"][1])),
    "model-version": lambda form: Way({"model": form.model("v"), "version": 1}, digit(DIGITS["v"][0])),
    "hooked": lambda form: Way(step(form, "Hooked"), digit(1, HOOKED)),
    "hooked-version": lambda form: Way(
        {"handler": _HANDLERS + "Hooked", "model": form.model("v"), "version": 1}, digit(DIGITS["v"][0], HOOKED)
    ),
    "alone": lambda form: Way(step(form, "Alone"), digit(ALONE)),
    "threaded": lambda form: Way(step(form, "Threaded"), digit(THREADED)),
    "apart": lambda form: Way(step(form, "Apart", offload="process"), digit(1, APART)),
}


# What has; each is given the node within it.


def _sequence(form: Form, hole: Way) -> Way:
    return Way({"sequence": [form.model("a"), hole.node]}, then(A, hole.says))


def _sequence_first(form: Form, hole: Way) -> Way:
    return Way({"sequence": [hole.node, {"model": form.model("b")}]}, then(hole.says, B))


def _sequence_instance(form: Form, hole: Way) -> Way:
    return Way({"sequence": [form.model("a"), {"node": hole.node, "input": "instance"}]}, hole.says)


def _sequence_both(form: Form, hole: Way) -> Way:
    both = step(form, "Both", input="both")
    return Way({"sequence": [hole.node, both]}, merged(lambda made, given: united(made, given), hole.says, same))


def _switch_parameter(form: Form, hole: Way) -> Way:
    node = {"parameter": "to.way", "cases": {"left": hole.node, "right": form.model("b")}, "otherwise": form.model("c")}
    return Way({"switch": node}, chosen(lambda item, said: said["parameter"], {"left": hole.says, "right": B}, C))


def _switch_header(form: Form, hole: Way) -> Way:
    node = {"header": "X-Way", "cases": {"left": form.model("b"), "right": hole.node}, "otherwise": form.model("c")}
    return Way({"switch": node}, chosen(lambda item, said: said["header"], {"right": hole.says, "left": B}, C))


def _switch_instance(form: Form, hole: Way) -> Way:
    one, two = form.words
    node = {**form.kind, "cases": {one: hole.node, two: form.model("b")}, "otherwise": form.model("c")}
    return Way({"switch": node}, chosen(lambda item, said: item[1], {1: hole.says, 2: B}, C))


def _switch_otherwise(form: Form, hole: Way) -> Way:
    node = {"function": f"{_HANDLERS}word", "cases": {"two": form.model("b")}, "otherwise": hole.node}
    return Way({"switch": node}, chosen(lambda item, said: item[1], {2: B}, hole.says))


def _switch_truth(form: Form, hole: Way) -> Way:
    node = {"function": f"{_HANDLERS}odd", "cases": {"true": hole.node, "false": form.model("b")}}
    return Way({"switch": node}, chosen(lambda item, said: item[1] % 2, {1: hole.says}, B))


def _split(form: Form, hole: Way) -> Way:
    arms = {form.model("b"): 2, "new": {"weight": 3, "node": hole.node}}
    return Way({"split": {"arms": arms}}, either(B, hole.says))


def _split_sticky(form: Form, hole: Way) -> Way:
    arms = {"old": {"weight": 1, "node": form.model("b")}, "new": {"weight": 1, "node": hole.node}}
    return Way({"split": {"sticky": form.sticky, "arms": arms}}, either(B, hole.says))


def _ensemble_mean(form: Form, hole: Way) -> Way:
    members = {"x": hole.node, "y": form.model("c")}
    ensemble = {"ensemble": {"members": members, "merge": "mean"}}
    tidied = step(form, "Tidied")  # the mean of 1 and 1 is 1.0, which is no kind
    return Way({"sequence": [ensemble, tidied]}, merged(mean, hole.says, C))


def _ensemble_vote(form: Form, hole: Way) -> Way:
    members = {"x": form.model("c"), "y": hole.node, "z": hole.node}
    vote = either(hole.says, C)  # where a split answers y and z differently, all have but one vote
    only = lambda item, said: hole.says(item, said) if len(hole.says(item, said)) == 1 else vote(item, said)  # noqa: E731
    return Way({"ensemble": {"members": members, "merge": "vote"}}, only)


def _ensemble_function(form: Form, hole: Way) -> Way:
    members = {"x": hole.node, "y": form.model("c")}
    return Way({"ensemble": {"members": members, "merge": f"{_HANDLERS}united"}}, merged(united, hole.says, C))


def _ensemble_object(form: Form, hole: Way) -> Way:
    members = {"x": hole.node, "y": form.model("c"), "z": step(form, "Fails")}
    ensemble = {"ensemble": {"members": members, "optional": ["z"]}}
    return Way({"sequence": [ensemble, step(form, "United")]}, merged(united, hole.says, C))


def _fallback_first(form: Form, hole: Way) -> Way:
    return Way({"fallback": [hole.node, form.model("b")]}, hole.says)


def _fallback_error(form: Form, hole: Way) -> Way:
    return Way({"fallback": [step(form, "Fails"), hole.node]}, hole.says)


def _fallback_gone(form: Form, hole: Way) -> Way:
    gone = step(form, "Gone", retry=1)
    return Way({"fallback": [gone, step(form, "Fails"), hole.node]}, hole.says)


def _fallback_late(form: Form, hole: Way) -> Way:
    return Way({"fallback": [step(form, "Hangs", timeout=0.05), hole.node]}, hole.says)


def _shadow(form: Form, hole: Way) -> Way:
    return Way({"shadow": {"node": hole.node, "mirror": form.model("b"), "compare": True}}, hole.says)


def _shadow_mirror(form: Form, hole: Way) -> Way:
    return Way({"shadow": {"node": form.model("b"), "mirror": hole.node, "limit": 4}}, B)


def _cascade_first(form: Form, hole: Way) -> Way:
    node = {"nodes": [hole.node, form.model("b"), form.model("c")], "below": 2, "score": form.score}
    # the kind stays as it is, so that what has not been sure once never is
    return Way({"cascade": node}, chosen(lambda item, said: item[1] < 2, {True: C}, hole.says))


def _cascade_next(form: Form, hole: Way) -> Way:
    node = {"nodes": [{"model": form.model("a")}, hole.node], "below": 3, "score": form.score}
    return Way({"cascade": node}, chosen(lambda item, said: item[1] < 3, {True: hole.says}, A))


def _limited(form: Form, hole: Way) -> Way:
    return Way({"node": hole.node, "timeout": 30, "retry": 2}, hole.says)


NODES: Mapping[str, Kind] = {
    "sequence": _sequence,
    "sequence-first": _sequence_first,
    "sequence-instance": _sequence_instance,
    "sequence-both": _sequence_both,
    "switch-parameter": _switch_parameter,
    "switch-header": _switch_header,
    "switch-instance": _switch_instance,
    "switch-otherwise": _switch_otherwise,
    "switch-truth": _switch_truth,
    "split": _split,
    "split-sticky": _split_sticky,
    "ensemble-mean": _ensemble_mean,
    "ensemble-vote": _ensemble_vote,
    "ensemble-function": _ensemble_function,
    "ensemble-object": _ensemble_object,
    "fallback-first": _fallback_first,
    "fallback-error": _fallback_error,
    "fallback-gone": _fallback_gone,
    "fallback-late": _fallback_late,
    "shadow": _shadow,
    "shadow-mirror": _shadow_mirror,
    "cascade-first": _cascade_first,
    "cascade-next": _cascade_next,
    "limited": _limited,
}


def filled(form: Form, *kinds: str) -> Way:
    """Nodes within one another, the outermost first; the innermost may be a leaf."""
    *outer, last = kinds
    way = LEAVES[last](form) if last in LEAVES else NODES[last](form, LEAVES["hooked"](form))
    for kind in reversed(outer):
        way = NODES[kind](form, way)
    return way


def referred(form: Form, *kinds: str) -> tuple[Way, dict[str, Json]]:
    """The same where each stands in `nodes` by a name of its own, and is referred to; with what stands there."""
    *outer, last = kinds
    nodes: dict[str, Json] = {}
    way = filled(form, last)
    for depth, kind in enumerate(reversed(outer)):
        name = f"part {form.letter}:{'>'.join(kinds[len(outer) - depth :])}"
        nodes[name] = way.node if isinstance(way.node, dict) else {"node": way.node}
        way = NODES[kind](form, Way(name, way.says))
    return way, nodes


# The folder


def onnx_model(digit: int) -> bytes:
    """X [n, 2], a number and a kind, -> Y [n, 2], where the number has one more digit."""
    nodes = [helper.make_node("Mul", ["X", "scale"], ["scaled"]), helper.make_node("Add", ["scaled", "digit"], ["Y"])]
    given, made = (helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", 2]) for name in "XY")
    constants = {"scale": np.array([10.0, 1.0]), "digit": np.array([float(digit), 0.0])}
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "path", [given], [made], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


_FIELDS = [("v", "TYPE_FP64"), ("kind", "TYPE_INT64")]
_TENSORS = ", ".join(f'{{ name: "{name}" data_type: {kind} dims: [ 1 ] }}' for name, kind in _FIELDS)
_POLICY = "max_batch_size: 64\nversion_policy { all { } }\ninstance_group [ { kind: KIND_CPU count: 1 } ]\n"


def write(folder: Path, yaml: Json, forms: Iterable[Form] = (ROW,), handlers: str = HANDLERS) -> Path:
    """Writes a service of the models of these forms; gives its folder.

    Args:
        folder: to write to.
        yaml: what listener.yaml says.
        forms: each has the models of `DIGITS`.
        handlers: handlers/paths.py.
    """
    for form in forms:
        for name, digits in DIGITS.items():
            for path, content in _model(form, digits):
                file = folder / "triton_repo" / form.model(name) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
    (folder / "handlers").mkdir()
    (folder / "handlers/paths.py").write_text(handlers)
    (folder / "listener.yaml").write_text(json.dumps(yaml, indent=1))
    return folder


def _model(form: Form, digits: tuple[int, ...]) -> Iterator[tuple[str, bytes]]:
    config = f'backend: "onnxruntime"\n{_POLICY}'
    if form is OBJECT:
        config = f'backend: "python"\n{_POLICY}input [ {_TENSORS} ]\noutput [ {_TENSORS} ]\n'
    yield "config.pbtxt", config.encode()
    for number, each in enumerate(digits, 1):
        if form is OBJECT:
            yield f"{number}/model.py", OBJECTS.replace("{digits}", repr(DIGITS)).encode()
        else:
            yield f"{number}/model.onnx", onnx_model(each)
