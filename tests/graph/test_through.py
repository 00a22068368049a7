"""What travels through whole graphs: media types, fields, copies, versions and errors that belong to one instance."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from listener.graph.split import Split
from listener.nodes import From
from listener.testing import FakeModel, FakeTriton
from listener.testing.client import Client, Refused
from listener.testing.modules import Modules
from tests.graph.made import ensemble, saying
from tests.graph.test_nodes import ask

ERROR = {"error": "is bad"}
HANDLERS = """
import numpy as np
from listener import Handler, InstanceError, Reply


class Pops(Handler):
    model = "m"

    def preprocess(self, instance):
        return {"x": np.array(instance.pop("v"), np.float32)}


class Broken(Handler):
    model = "m"

    def preprocess(self, instance):
        instance.pop("v")
        raise RuntimeError("secret")


class Picky(Pops):
    def preprocess(self, instance):
        if instance.get("bad"):
            raise InstanceError("is bad")
        return super().preprocess(instance)


class Bytes(Handler):
    model = "m"

    def preprocess(self, instance):
        return {"x": np.array([len(instance)], np.float32)}


class Remaining(Handler):
    model = None

    async def predict(self, call):
        return Reply([call.context.remaining()])


def merge(said):
    if said["a"] == [2]:
        raise InstanceError("is bad")
    return said["b"]


def score(prediction):
    if prediction == [2]:
        raise InstanceError("is bad")
    return 0


async def _kind(instance, context):
    return "a"


def wrapped(instance, context):
    return _kind(instance, context)


class Kind:
    async def __call__(self, instance, context):
        return "a"


waits = Kind()
"""


async def told(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    yield {"y": request["x"]}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], Client]]:
    made: list[Any] = [Modules(tmp_path)]

    def start(yaml: str) -> Client:
        (tmp_path / "through.py").write_text(HANDLERS)
        (tmp_path / "listener.yaml").write_text(dedent(yaml))
        triton = FakeTriton()
        tensors = ({"x": ("FP32", [1])}, {"y": ("FP32", [1])})
        triton.models["m"] = FakeModel(*tensors, lambda given: {"y": given["x"] + 1}, versions=("1", "2"))
        triton.models["told"] = FakeModel(*tensors, lambda given: given, events=told)
        made.append(Client(tmp_path, triton))
        client: Client = made[-1]
        return client

    yield start
    for each in reversed(made):
        each.close()


def test_what_comes_after_a_handler_of_bytes_is_not_of_their_media_type(serve: Callable[[str], Client]) -> None:
    client = serve("routes: {r: {sequence: [{handler: 'through:Bytes'}, m]}}")
    assert client.post(b"1234", {"Content-Type": "image/jpeg"}) == (200, {"predictions": [[6]]})


def test_a_model_that_answers_in_pieces_does_not_get_the_field_that_said_the_way(
    serve: Callable[[str], Client],
) -> None:
    client = serve("routes: {r: {switch: {field: kind, cases: {a: told, b: m}}}}")
    said = [{"kind": "a", "x": [5]}, {"kind": "b", "x": [5]}]
    assert client.predict(said) == [[[5]], [6]]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("fallback: [{handler: 'through:Broken'}, {handler: 'through:Pops'}]", [2]),
        ("ensemble: {members: {a: {handler: 'through:Pops'}, b: {handler: 'through:Pops', version: 1}}}",
         {"a": [2], "b": [2]}),
        ("sequence: [{handler: 'through:Pops'}, {node: {handler: 'through:Pops', version: 1}, input: instance}]", [2]),
        ("cascade: {nodes: [{handler: 'through:Pops'}, {handler: 'through:Pops', version: 1}], below: 99}", [2]),
    ],
)  # fmt: skip
def test_a_handler_may_change_its_instance_without_harm_to_other_nodes(
    node: str, expected: Any, serve: Callable[[str], Client]
) -> None:
    assert serve(f"routes: {{r: {{{node}}}}}").predict([{"v": [1]}]) == [expected]


def test_nor_to_the_second_time_that_it_is_asked(serve: Callable[[str], Client]) -> None:
    client = serve("routes: {r: {handler: 'through:Picky', errors: per_instance}}")
    assert client.predict([{"v": [1]}, {"v": [2], "bad": True}]) == [[2], ERROR]


def test_functions_may_fail_for_an_instance_alone(serve: Callable[[str], Client]) -> None:
    client = serve(
        """
        default: e
        routes:
          e: {ensemble: {members: {a: m, b: pass}, merge: 'through:merge'}, errors: per_instance}
          c: {cascade: {nodes: [m, pass], below: 1, score: 'through:score'}, errors: per_instance}
        """
    )
    for name in ("e", "c"):
        assert client.predict([[1], [5], [1]], parameters={"model": name}) == [ERROR, [5], ERROR]


def test_a_stream_through_a_switch_has_the_errors_of_instances_too(serve: Callable[[str], Client]) -> None:
    client = serve("routes: {r: {switch: {field: kind, cases: {a: m}}, errors: per_instance}}")
    body = {"instances": [{"kind": "a", "x": [1]}, {"kind": "b", "x": [1]}]}
    status, events = client.post(body, {"Accept": "text/event-stream"})
    assert (status, events) == (
        200,
        b"""data: {"predictions":[[2.0],{"error":"its 'kind' is 'b'; it can be a"}]}\n\n""",
    )


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_node_knows_the_time_that_it_has(accept: str, serve: Callable[[str], Client]) -> None:
    client = serve("routes: {r: {node: {handler: 'through:Remaining'}, timeout: 1}}")
    status, said = client.post({"instances": [1]}, {"Accept": accept})
    text = said if isinstance(said, str) else str(said)
    assert status == 200
    assert "0.9" in text


def test_a_step_with_limits_has_versions(serve: Callable[[str], Client]) -> None:
    client = serve("default: n\nroutes: {r: {model: m, timeout: 5}, n: {node: r, retry: 1}}")
    for name in ("r", "n"):
        assert client.predict([[1]], parameters={"model": name, "version": 2}) == [[2]]
        with pytest.raises(Refused, match=r"parameters\.version: model 'm' has no version 7; it has 1, 2"):
            client.predict([[1]], parameters={"model": name, "version": 7})


@pytest.mark.parametrize("function", ["wrapped", "waits"])
def test_a_function_that_waits_is_waited_for_or_fails_aloud(function: str, serve: Callable[[str], Client]) -> None:
    client = serve(f"routes: {{r: {{switch: {{function: 'through:{function}', cases: {{a: m}}, otherwise: pass}}}}}}")
    if function == "waits":
        assert client.predict([[1]]) == [[2]]
    else:
        with pytest.raises(Refused, match="failed in its function"):
            client.predict([[1]])


@pytest.mark.parametrize("user", [None, "", {}])
async def test_nobody_has_no_arm_of_their_own(user: Any) -> None:
    node = Split("s", {"a": 1, "b": 1}, {"a": saying("a"), "b": saying("b")}, From("field", "user"))
    said = {(await ask(node, {} if user == {} else {"user": user}))[0] for _ in range(100)}
    assert said == {"a", "b"}


async def test_a_mean_has_no_more_digits_than_what_it_is_of() -> None:
    import numpy as np

    from listener.call import Reply
    from listener.contract.instances import encode

    halves = saying(np.array([0.1], np.float32))
    (mean,) = await ask(ensemble({"a": halves, "b": halves}, "mean"), 1)
    assert encode(Reply([mean])) == b'{"predictions":[[0.1]]}'


def test_limits_move_no_key_to_another_arm(serve: Callable[[str], Client]) -> None:
    client = serve(
        """
        default: ab
        routes:
          ab: {split: {arms: {one: 1, two: 1}, sticky: {parameter: user}}}
        nodes: {one: {model: m}, two: {node: pass}}
        """
    )
    before = [client.predict([[1]], parameters={"user": n}) for n in range(40)]
    client.close()
    file = client._service / "listener.yaml"
    file.write_text(file.read_text().replace("{split", "{timeout: 5, retry: 1, split"))
    assert [client.predict([[1]], parameters={"user": n}) for n in range(40)] == before
