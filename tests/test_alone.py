"""`errors: per_instance`: an instance that is at fault fails alone, wherever that is found out."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from listener import decoupled
from listener.call import Call, Reply
from listener.errors import ListenerError, TritonFailed, Unavailable
from listener.graph.grouping import one_by_one
from listener.handler import Handler
from listener.tensors import ModelSpec
from listener.testing import FakeModel, FakeTriton
from listener.testing.client import Client, Refused
from listener.testing.modules import Modules

BAD = {"error": "is bad"}

PREPROCESS = """
def preprocess(self, instance):
    self.seen = getattr(self, "seen", 0) + 1
    if instance == "bad":
        raise InstanceError("is bad")
    if instance == "bug":
        raise RuntimeError("secret")
    return {"x": np.array([instance], np.float32)}

def postprocess(self, outputs):
    return float(outputs["y"][0])
"""
ASYNC = PREPROCESS.replace("def p", "async def p")
POSTPROCESS = """
def preprocess(self, instance):
    if instance == "bug":
        raise RuntimeError("secret")
    return {"x": np.array([-1 if instance == "bad" else instance], np.float32)}

def postprocess(self, outputs):
    if outputs["y"][0] == 0:
        raise InstanceError("is bad")
    return float(outputs["y"][0])
"""
RAISING = """
async def predict(self, call):
    for index, instance in enumerate(call.instances):
        if instance == "bad":
            raise InstanceError("is bad", index)
        if instance == "bug":
            raise RuntimeError("secret")
    return Reply([instance + 1.0 for instance in call.instances])
"""
GIVING = """
def predict(self, call):
    if "bug" in call.instances:
        raise RuntimeError("secret")
    return Reply([InstanceError("is bad") if each == "bad" else each + 1.0 for each in call.instances])
"""
GENERATING = """
async def predict(self, call):
    if call.instances[0] == "bad":
        raise InstanceError("is bad")
    if call.instances[0] == "bug":
        raise RuntimeError("secret")
    yield call.instances[0] + 1.0
"""
FORMS = {
    "preprocess": PREPROCESS,
    "async": ASYNC,
    "thread": "offload = 'thread'\n" + PREPROCESS,
    "process": "offload = 'process'\n" + PREPROCESS,
    "inline": "offload = 'inline'\n" + PREPROCESS,
    "postprocess": POSTPROCESS,
    "async postprocess": POSTPROCESS.replace("def p", "async def p"),
    "predict that raises": RAISING,
    "predict that gives it": GIVING,
}


async def spoken(given: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    for word in given["x"].split():
        yield {"y": word}


def plus_one(shape: int = 1) -> FakeTriton:
    triton = FakeTriton()
    tensors = {name: ("FP32", [shape]) for name in "xy"}
    triton.models["m"] = FakeModel({"x": tensors["x"]}, {"y": tensors["y"]}, lambda given: {"y": given["x"] + 1})
    text = ("BYTES", [1])
    triton.models["words"] = FakeModel({"x": text}, {"y": text}, dict, 0, events=spoken)
    return triton


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    made: list[Any] = [Modules(tmp_path)]

    def start(yaml: str, code: str = "", beside: str = "", shape: int = 1, triton: FakeTriton | None = None) -> Client:
        (tmp_path / "alone_handlers.py").write_text(
            "import numpy as np\nfrom listener import Handler, InstanceError, Reply\n\n"
            "class H(Handler):\n    model = 'm'\n" + indent(dedent(code), "    ") + dedent(beside)
        )
        (tmp_path / "listener.yaml").write_text(dedent(yaml))
        made.append(Client(tmp_path, triton or plus_one(shape)))
        return made[-1]  # type: ignore[no-any-return]

    yield start
    for each in reversed(made):
        each.close()


ALONE = "routes: {r: {handler: 'alone_handlers:H', errors: per_instance}}"


@pytest.mark.parametrize("code", FORMS.values(), ids=FORMS.keys())
def test_the_others_get_their_predictions(code: str, serve: Callable[..., Client]) -> None:
    client = serve(ALONE, code)
    assert client.predict([1, "bad", 2, "bad", 3]) == [2, BAD, 3, BAD, 4]
    assert client.predict(["bad"]) == [BAD]
    assert client.predict(["bad"] * 3) == [BAD] * 3
    assert client.predict([1, 2]) == [2, 3]


@pytest.mark.parametrize("code", FORMS.values(), ids=FORMS.keys())
def test_what_is_no_instances_fault_fails_the_request(code: str, serve: Callable[..., Client]) -> None:
    client = serve(ALONE, code)
    with pytest.raises(Refused) as caught:
        client.predict([1, "bad", "bug", "bad"])
    assert caught.value.status == 500
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("code", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("errors", ["", "errors: request"])
def test_without_it_the_request_fails(code: str, errors: str, serve: Callable[..., Client]) -> None:
    client = serve(f"routes: {{r: {{handler: 'alone_handlers:H', {errors}}}}}", code)
    with pytest.raises(Refused) as caught:
        client.predict([1, 2, "bad", "bad"])
    assert (caught.value.status, caught.value.error) == (400, "instances[2]: is bad")


def test_a_generator_fails_for_its_instance_alone(serve: Callable[..., Client]) -> None:
    client = serve(ALONE, GENERATING)
    assert client.predict([1, "bad", 2]) == [[2], BAD, [3]]


def test_a_preprocess_runs_twice_at_most_however_many_fail(serve: Callable[..., Client]) -> None:
    code = PREPROCESS.replace('return float(outputs["y"][0])', "return self.seen")
    client = serve(ALONE, code)
    assert client.predict([1, *["bad"] * 50, 2])[-1] == 52 + 2


#: Half of them bad. A `predict` that raises says one instance at a time, and is asked again for each.
MANY = [index // 2 if index % 2 else "bad" for index in range(2000)]
SAID = [index // 2 + 1 if index % 2 else BAD for index in range(2000)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many instances each call of a handler's own `predict` had."""
    calls: list[int] = []
    own = Handler.predict

    async def counting(self: Handler, call: Call) -> Reply:
        calls.append(len(call.instances))
        return await own(self, call)

    monkeypatch.setattr(Handler, "predict", counting)
    return calls


@pytest.mark.parametrize("name", [name for name in FORMS if not name.startswith("predict")])
def test_a_thousand_that_fail_are_found_in_one_pass(name: str, asked: list[int], serve: Callable[..., Client]) -> None:
    client = serve(ALONE, FORMS[name])
    assert client.predict(MANY) == SAID
    assert asked == [2000, 1000]


def test_a_predict_that_gives_a_thousand_errors_is_called_once(serve: Callable[..., Client]) -> None:
    once = """    self.asked = getattr(self, "asked", 0) + 1
    if self.asked > 1 or "bug" in call.instances:"""
    client = serve(ALONE, GIVING.replace('    if "bug" in call.instances:', once))
    assert client.predict(MANY) == SAID


RAGGED_ROWS = [[0.0] * length for length in range(1, 301)]
SHAPED = """
def preprocess(self, instance):
    return {"x": np.array(instance, np.float32)}
"""


@pytest.mark.parametrize("code", ["", SHAPED], ids=["without a hook", "from a hook"])
def test_rows_of_as_many_lengths_are_found_in_one_pass(
    code: str, asked: list[int], serve: Callable[..., Client]
) -> None:
    client = serve(ALONE, code, shape=-1)
    found = client.predict([*RAGGED_ROWS, [1.0]])
    told = [{"error": f"'x' has shape [{length}] where another instance has [1]"} for length in range(2, 301)]
    assert found == [[1], *told, [2]]
    assert asked == [301, 2]


def test_a_model_that_answers_in_pieces_is_asked_twice(
    monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Client]
) -> None:
    passes: list[int] = []
    collect = decoupled.collect

    async def counting(relay: Any, call: Call, spec: ModelSpec) -> Reply:
        passes.append(len(call.instances))
        return await collect(relay, call, spec)

    monkeypatch.setattr(decoupled, "collect", counting)
    client = serve("routes: {words: {errors: per_instance}}")
    bad = {"b64": "/w=="}
    told = {"error": "input 'x' is no UTF-8, which this model's requests have to be"}
    assert client.predict(["a", *[bad] * 1990, "b c"]) == [["a"], *[told] * 1990, ["b", "c"]]
    assert passes == [1992, 2]


def test_instances_for_a_model_without_code(serve: Callable[..., Client]) -> None:
    client = serve("routes: {m: {errors: per_instance}}")
    assert client.predict([[1], [1, 2], ["x"], [3]]) == [
        [2],
        {"error": "input 'x' has shape [2]; the model takes [1]"},
        {"error": "input 'x' is FP32 and takes numbers, not 'x' at [0]"},
        [4],
    ]
    with pytest.raises(Refused, match=r"instances\[1\]: input 'x' has shape"):
        serve("routes: {m: {}}").predict([[1], [1, 2]])


def test_columns_have_no_place_for_an_error(serve: Callable[..., Client]) -> None:
    client = serve("routes: {m: {errors: per_instance}}")
    assert client.post({"inputs": [[1], [2]]}) == (200, {"outputs": [[2], [3]]})
    status, told = client.post({"inputs": [[1], ["x"]]})
    assert (status, list(told)) == (400, ["error"])


def test_it_counts_where_a_request_names_the_route(serve: Callable[..., Client]) -> None:
    client = serve(
        """
        default: r
        routes:
          r: {handler: 'alone_handlers:H'}
          calm: {node: r, errors: per_instance}
          chain: {sequence: [calm, pass]}
        """,
        PREPROCESS,
    )
    assert client.predict([1, "bad"], parameters={"model": "calm"}) == [2, BAD]
    for name in ("r", "chain"):
        with pytest.raises(Refused, match=r"instances\[1\]: is bad"):
            client.predict([1, "bad"], parameters={"model": name})


GRAPHS = {
    "sequence": ("{sequence: [r, r]}", [3, BAD, 5]),
    "sequence with the instance": ("{sequence: [r, {node: r, input: instance}]}", [2, BAD, 4]),
    "sequence with both": ("{sequence: [r, {node: pass, input: both}]}",
                           [{"instance": 1, "prediction": 2}, BAD, {"instance": 3, "prediction": 4}]),
    "fallback": ("{fallback: [r, pass]}", [2, BAD, 4]),
    "ensemble": ("{ensemble: {members: {a: r, b: pass}}}", [{"a": 2, "b": 1}, BAD, {"a": 4, "b": 3}]),
    "cascade": ("{cascade: {nodes: [r, pass], below: 3}}", [1, BAD, 4]),
    "split": ("{split: {arms: {r: 1}}}", [2, BAD, 4]),
    "shadow": ("{shadow: {node: r, mirror: pass, compare: true}}", [2, BAD, 4]),
    "a time": ("{node: r, timeout: 5, retry: 1}", [2, BAD, 4]),
    "one after another": ("{sequence: [{cascade: {nodes: [r, pass], below: 3}}, {ensemble: {members: {a: r}}}]}",
                          [{"a": 2}, BAD, {"a": 5}]),
}  # fmt: skip


@pytest.mark.parametrize(("node", "expected"), GRAPHS.values(), ids=GRAPHS.keys())
def test_through_every_node(node: str, expected: list[Any], serve: Callable[..., Client]) -> None:
    yaml = f"""
        default: g
        routes: {{r: {{handler: 'alone_handlers:H'}}, g: {node.removesuffix("}")}, errors: per_instance}}}}
    """
    client = serve(yaml, PREPROCESS)
    assert client.predict([1, "bad", 3]) == expected
    assert client.predict(["bad", "bad"]) == [BAD, BAD]


def test_an_instance_without_a_case_fails_alone(serve: Callable[..., Client]) -> None:
    yaml = """
        default: g
        routes:
          r: {handler: 'alone_handlers:H'}
          g: {switch: {field: kind, cases: {a: pass, b: {sequence: [first, r]}}}, errors: per_instance}
          h: {switch: {function: 'alone_handlers:kind', cases: {a: pass}, otherwise: pass}, errors: per_instance}
        nodes:
          first: {handler: 'alone_handlers:First'}
    """
    beside = """
        class First(Handler):
            model = "m"

            async def predict(self, call):
                return Reply([each["n"] for each in call.instances])

        def kind(instance, context):
            if instance == "bad":
                raise InstanceError("is bad")
            return "a"
    """
    client = serve(yaml, PREPROCESS, beside)
    given = [{"kind": "a", "n": 1}, {"kind": "c"}, {"kind": "b", "n": 2}, {"kind": "b", "n": "bad"}, {}]
    assert client.predict(given) == [
        {"kind": "a", "n": 1},
        {"error": "its 'kind' is 'c'; it can be a, b"},
        3,
        BAD,
        {"error": "its 'kind' is missing; it can be a, b"},
    ]
    assert client.predict([1, "bad"], parameters={"model": "h"}) == [1, BAD]


# Triton fails on a batch


class Failing(FakeTriton):
    """Its model `m`, and `words`, fail on every call that has a bad row; `other` does not."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        whole = plus_one()
        self.models |= whole.models
        self.models["other"] = whole.models["m"]
        self.models["m"] = replace(whole.models["m"], run=self._run)
        self.models["words"] = replace(whole.models["words"], events=self._spoken)
        self.failure = failure

    def _run(self, given: dict[str, Any]) -> dict[str, Any]:
        if 13 in given["x"]:
            raise self.failure
        return {"y": given["x"] + 1}

    async def _spoken(self, given: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        if given["x"] == "bad":
            raise ValueError("is bad")
        yield {"y": given["x"]}


REFUSED, BROKEN = {"error": "model 'm': is bad"}, {"error": "model 'm' failed in Triton"}
FAILURES = {
    "4xx": (ValueError("is bad"), 400, REFUSED),
    "5xx": (RuntimeError("secret"), 502, BROKEN),
}
CALLING = """
async def predict(self, call):
    x = np.array([[each] for each in call.instances], np.float32)
    return Reply([float(y) for y in (await self.models["m"].infer({"x": x}))["y"][:, 0]])
"""


@pytest.mark.parametrize(("failure", "status", "told"), FAILURES.values(), ids=FAILURES.keys())
def test_an_instance_that_triton_fails_on_fails_alone(
    failure: Exception,
    status: int,
    told: dict[str, str],
    serve: Callable[..., Client],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "listener.graph")
    triton = Failing(failure)
    client = serve("routes: {m: {errors: per_instance}}", triton=triton)
    many = [[13] if number in (0, 7, 30) else [number] for number in range(40)]
    assert client.predict(many) == [told if one == [13] else [one[0] + 1] for one in many]
    assert sum(triton.batches) <= 3 * 40  # together, joined again by their calls, and by itself
    noted = [record for record in caplog.records if record.name == "listener.graph"]
    assert [(one.levelname, "is bad" in one.getMessage()) for one in noted] == [
        ("INFO" if status == 400 else "ERROR", False)
    ]
    assert client.predict([[1], [2]]) == [[2], [3]]
    with pytest.raises(Refused) as caught:
        serve("routes: {m: {}}", triton=Failing(failure)).predict([[1], [13]])
    assert caught.value.status == status


@pytest.mark.parametrize("code", ["", PREPROCESS, CALLING], ids=["none", "hooks", "predict"])
def test_it_does_so_whatever_the_handler_is(code: str, serve: Callable[..., Client]) -> None:
    client = serve(ALONE, code or "pass", triton=Failing(ValueError("is bad")))
    given: list[Any] = [[1], [13], [3]] if not code else [1, 13, 3]
    wanted = [[2], REFUSED, [4]] if not code else [2, REFUSED, 4]
    assert client.predict(given) == wanted
    if code == PREPROCESS:
        assert client.predict([1, "bad", 13, 3]) == [2, BAD, REFUSED, 4]


@pytest.mark.parametrize(("failure", "status", "told"), FAILURES.values(), ids=FAILURES.keys())
def test_a_model_that_fails_on_everything_fails_the_request_and_is_not_asked_about_all(
    failure: Exception, status: int, told: dict[str, str], serve: Callable[..., Client]
) -> None:
    triton = Failing(failure)
    client = serve("routes: {m: {errors: per_instance}}", triton=triton)
    for count in (1, 2, 60):
        triton.batches.clear()
        with pytest.raises(Refused) as caught:
            client.predict([[13]] * count)
        assert (caught.value.status, str(caught.value).endswith(told["error"])) == (status, True)
        assert sum(triton.batches) <= (1 if count == 1 else count + 2 * min(count, 8))


def test_a_model_that_answers_in_pieces_fails_on_one_alone(serve: Callable[..., Client]) -> None:
    client = serve("routes: {words: {errors: per_instance}}", triton=Failing(ValueError()))
    assert client.predict(["a", "bad", "c"]) == [["a"], {"error": "model 'words': is bad"}, ["c"]]


def test_a_fallback_answers_for_what_triton_failed_on_and_for_no_more(serve: Callable[..., Client]) -> None:
    yaml = "routes: {r: {fallback: [m, other], errors: per_instance}}"
    triton = Failing(RuntimeError("secret"))
    assert serve(yaml, triton=triton).predict([[1], [13], [3]]) == [[2], [14], [4]]
    assert triton.batches[-1] == 1
    assert serve(yaml, triton=Failing(ValueError("is bad"))).predict([[1], [13], [3]]) == [[2], REFUSED, [4]]
    both = yaml.replace("other", "m")
    assert serve(both, triton=Failing(RuntimeError("secret"))).predict([[1], [13], [3]]) == [[2], BROKEN, [4]]


async def test_what_is_no_instances_fault_fails_the_request_at_the_second_try_as_well() -> None:
    async def node(call: Call) -> Reply:
        error: ListenerError = TritonFailed("no") if len(call.instances) > 1 else Unavailable("not ready")
        error.of_rows = isinstance(error, TritonFailed)
        raise error

    with pytest.raises(Unavailable):
        await one_by_one(Call([1, 2], alone=True), node)


async def test_what_depends_on_rows_before_is_not_tried_again() -> None:
    asked: list[int] = []

    async def node(call: Call) -> Reply:
        asked.append(len(call.instances))
        raise TritonFailed("no")

    with pytest.raises(TritonFailed):
        await one_by_one(Call([1, 2], alone=True), node)
    assert asked == [2]
