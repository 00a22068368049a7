"""The OpenAPI document: valid, complete, and exact about each thing that is served."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import OpenAPIV30SpecValidator

from listener.contract import described, openapi, schema
from listener.contract.served import Served
from listener.handler import Handler
from listener.tensors import ModelSpec, TensorSpec

ROUTES = openapi.Routes("/predict", "/health", "plain")
PLAIN = ModelSpec("plain", (TensorSpec("X", "INT8", (2,)),), (TensorSpec("Y", "FP32", (1,)),), 4)
TEXTS = ModelSpec(
    "texts",
    (TensorSpec("T", "BYTES", (1,)), TensorSpec("N", "INT32", (1,), optional=True)),
    (TensorSpec("A", "BOOL", (1,)), TensorSpec("B_bytes", "BYTES", (1,))),
    0,
)
SERVED = [
    Served("plain", "plain", PLAIN, versions=("1", "2")),
    Served("texts", "texts", TEXTS, versions=("1",)),
    Served("told", "plain", PLAIN, {"type": "string"}, {"enum": [1, 2]}),
    Served("untold", "unknown"),
]


def document(served: list[Served] = SERVED, routes: openapi.Routes = ROUTES) -> openapi.Part:
    """The document, as its readers get it."""
    made: openapi.Part = orjson.loads(orjson.dumps(openapi.document("A service", "1.2", routes, served)))
    OpenAPIV30SpecValidator(made).validate()
    return made


def request(made: openapi.Part, path: str) -> Any:
    """What validates the JSON bodies of a POST."""
    content = made["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return validator(made, content["schema"])


def answer(made: openapi.Part, path: str, method: str = "post", status: str = "200") -> Any:
    """What validates the JSON bodies of an answer."""
    part = made["paths"][path][method]["responses"][status]
    if "$ref" in part:
        part = made["components"]["responses"][part["$ref"].rpartition("/")[2]]
    return validator(made, part["content"]["application/json"]["schema"])


def validator(made: openapi.Part, found: schema.Schema) -> Any:
    return OAS30Validator(schema.resolved(found, made["components"]["schemas"]))


def test_without_anything_that_is_served_it_is_valid() -> None:
    made = document([], openapi.Routes("/predict", "/health", None))
    assert {"/predict", "/health", "/", "/openapi.json", "/v1/models", "/v2", "/v2/repository/index"} <= set(
        made["paths"]
    )


def test_title_and_version() -> None:
    made = document()
    assert (made["openapi"], made["info"]["title"], made["info"]["version"]) == ("3.0.3", "A service", "1.2")


def test_every_route_of_every_version_has_its_path() -> None:
    made = document()
    paths = set(made["paths"])
    for path in ("/v1/models/plain", "/v1/models/plain/versions/2", "/v1/models/told", "/v1/models/untold"):
        assert {path, f"{path}:predict"} <= paths
    for path in ("/v2/models/plain", "/v2/models/plain/versions/1", "/v2/models/unknown"):
        tails = ("", "/ready", "/config", "/stats", "/infer", "/generate", "/generate_stream")
        assert {path + tail for tail in tails} <= paths
    assert not paths & {"/v2/models/told", "/v1/models/unknown", "/v1/models/plain/versions/3"}


def test_methods_are_those_that_are_served() -> None:
    posted = ("/predict", "/v2/repository/index", ":predict", "/infer", "/generate", "/generate_stream")
    for path, item in document()["paths"].items():
        assert set(item) == ({"post"} if path.endswith(posted) else {"get"}), path


def test_a_route_that_predicts_and_tells_its_health() -> None:
    made = document(routes=openapi.Routes("/{all}", "/{all}", "plain"))
    assert set(made["paths"]["/%7Ball%7D"]) == {"get", "post"}


def test_where_health_may_end_in_predict_both_tell_it() -> None:
    made = document(routes=openapi.Routes("/v1/e/1:predict", "/v1/e/1", "plain"))
    assert set(made["paths"]["/v1/e/1:predict"]) == {"get", "post"}
    assert set(made["paths"]["/v1/e/1"]) == {"get"}


def test_the_predict_route_of_legacy_is_one_of_a_model_as_well() -> None:
    made = document(
        routes=openapi.Routes("/v1/models/plain/versions/2:predict", "/v1/models/plain/versions/2", "texts")
    )
    good = {"instances": [{"T": "text"}]}
    assert request(made, "/v1/models/plain/versions/2:predict").is_valid(good)  # the default, not the path
    assert "503" in made["paths"]["/v1/models/plain/versions/2"]["get"]["responses"]


@pytest.mark.parametrize("name", ["a b", "é", "{x}", "a/b", "100%", 'q"', "A.instance", "Error"])
def test_names_of_any_kind(name: str) -> None:
    spec = ModelSpec(name, PLAIN.inputs, PLAIN.outputs, 4)
    made = document([Served(name, name, spec), Served("A", "A", PLAIN)])
    listed = made[openapi.EXTENSION]["served"]
    assert set(listed) == {name, "A"}
    assert listed[name]["instance"] != listed["A"]["instance"]


def test_names_that_become_alike_keep_their_schemas_apart() -> None:
    made = document([Served("a b", "x", PLAIN), Served("a/b", "y", TEXTS), Served("a_b", "z", PLAIN)])
    found = [part["instance"]["$ref"] for part in made[openapi.EXTENSION]["served"].values()]
    assert len(set(found)) == 3
    assert request(made, "/v1/models/a%2Fb:predict").is_valid({"instances": [{"T": "text"}]})


# Requests


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2], ["3", 4.0]]},
        {"instances": [[1, 2]], "parameters": None},
        {"instances": [[1, 2]], "parameters": {}, "signature_name": "x"},
        {"instances": [[1, 2]], "parameters": {"model": "plain", "version": 2, "mine": 1}},
        {"instances": [{"T": "text"}], "parameters": {"model": "texts"}},
        {"instances": ["anything"], "parameters": {"model": "told"}},
        {"instances": [None], "parameters": {"model": "untold"}},
        {"inputs": [[1, 2], [3, 4]]},
        {"inputs": {"X": [[1, 2]]}, "parameters": {"model": "plain"}},
        {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "INT8", "data": [1, 2]}]},
    ],
)
def test_requests_on_the_predict_route(body: dict[str, Any]) -> None:
    request(document(), "/predict").validate(body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"instances": []},
        {"instances": [[1, 2]], "parameters": []},
        {"instances": [[1, 2]], "parameters": {"model": "texts"}},
        {"instances": [[1, 2]], "parameters": {"model": "nobody"}},
        {"instances": [[1, 2]], "parameters": {"model": "plain", "version": 3}},
        {"instances": [{"T": "text"}]},
        {"instances": [1], "parameters": {"model": "told"}},
        {"inputs": [[1]]},
        {"inputs": [{"name": "Z", "shape": [1, 2], "datatype": "INT8", "data": [1, 2]}]},
    ],
)
def test_no_requests_on_the_predict_route(body: object) -> None:
    assert not request(document(), "/predict").is_valid(body)


def test_a_path_chooses_the_model() -> None:
    made = document()
    assert request(made, "/v1/models/texts:predict").is_valid({"instances": [{"T": "text"}]})
    assert not request(made, "/v1/models/texts:predict").is_valid({"instances": [[1, 2]]})
    assert request(made, "/v1/models/plain/versions/1:predict").is_valid({"inputs": {"X": [[1, 2]]}})


def test_a_model_without_batching_has_no_batch_in_columns() -> None:
    assert request(document(), "/v1/models/texts:predict").is_valid({"inputs": {"T": ["text"], "N": [1]}})


def test_handlers_take_no_columns() -> None:
    assert not request(document(), "/v1/models/told:predict").is_valid({"inputs": ["text"]})


def test_without_a_default_the_model_has_to_be_named() -> None:
    found = request(document(routes=openapi.Routes("/predict", "/health", None)), "/predict")
    assert not found.is_valid({"instances": [[1, 2]]})
    assert found.is_valid({"instances": [[1, 2]], "parameters": {"model": "plain"}})


def test_inference_by_the_open_protocol() -> None:
    found = request(document(), "/v2/models/texts/infer")
    tensors: list[dict[str, Any]] = [
        {"name": "T", "shape": [1], "datatype": "BYTES", "data": ["text"]},
        {"name": "N", "shape": [1], "datatype": "INT32", "parameters": {}, "data": [[1]]},
    ]
    assert found.is_valid({"id": "1", "inputs": tensors, "outputs": [{"name": "A"}]})
    others: list[Any] = [
        {"inputs": []},
        {"inputs": [{**tensors[0], "datatype": "INT32"}]},
        {"inputs": [{**tensors[0], "shape": [1, 1]}]},
        {"inputs": [{**tensors[0], "data": [1]}]},
        {"inputs": [{name: value for name, value in tensors[0].items() if name != "data"}]},
        {"inputs": tensors, "outputs": [{"name": "T"}]},
    ]
    assert not any(found.is_valid(other) for other in others)


@pytest.mark.parametrize("name", ["id", "parameters", "required", "self"])
def test_inputs_with_the_names_of_other_things(name: str) -> None:
    spec = ModelSpec("m", (TensorSpec(name, "FP32", (1,)),), (TensorSpec(name, "FP32", (1,)),), 0)
    made = document([Served("m", "m", spec)])
    assert request(made, "/v1/models/m:predict").is_valid({"instances": [{name: 1}]})
    assert request(made, "/v2/models/m/generate").is_valid({name: 1.5})


def test_a_model_without_inputs_and_outputs() -> None:
    made = document([Served("m", "m", ModelSpec("m", (), (), 0))])
    assert request(made, "/v1/models/m:predict").is_valid({"instances": [{}]})


@pytest.mark.parametrize(
    ("datatype", "media"),
    [
        ("FP32", {"application/json", "application/octet-stream", "application/x-npy"}),
        ("BYTES", {"application/json", "application/octet-stream", "image/*"}),
    ],
)
def test_media_types(datatype: str, media: set[str]) -> None:
    spec = ModelSpec("m", (TensorSpec("X", datatype, (1,)),), PLAIN.outputs, 4)
    paths = document([Served("m", "m", spec), *SERVED], openapi.Routes("/predict", "/health", "m"))["paths"]
    for path in ("/predict", "/v1/models/m:predict"):
        assert set(paths[path]["post"]["requestBody"]["content"]) == media
    assert set(paths["/v1/models/texts:predict"]["post"]["requestBody"]["content"]) == {"application/json"}
    assert len(paths["/v1/models/told:predict"]["post"]["requestBody"]["content"]) == 4


def test_decoupled_models_are_not_inferred_with() -> None:
    made = document([Served("m", "m", ModelSpec("m", PLAIN.inputs, PLAIN.outputs, 0, decoupled=True))])
    assert "/v2/models/m/infer" not in made["paths"]
    assert "/v2/models/m/generate_stream" in made["paths"]
    found = answer(made, "/v1/models/m:predict")
    assert found.is_valid({"predictions": [[1, 2], []]})
    assert not found.is_valid({"model_name": "m", "model_version": "1", "outputs": []})


# Answers


def test_answers_of_a_prediction() -> None:
    found = answer(document(), "/predict")
    for good in (
        {"predictions": [[0.5], [None]]},
        {"predictions": [{"A": [True], "B_bytes": [{"b64": "AA=="}]}]},
        {"predictions": [2]},
        {"outputs": [[0.5]]},
        {"model_name": "plain", "model_version": "1", "outputs": [{"name": "Y", "datatype": "FP32", "shape": [1, 1]}]},
    ):
        found.validate(good)
    told = answer(document(), "/v1/models/told:predict")
    assert told.is_valid({"predictions": [1]})
    assert not told.is_valid({"predictions": [3]})
    assert not told.is_valid({"predictions": [1], "deployedModelId": "1"})


@pytest.mark.parametrize("path", ["/predict", "/v1/models/plain:predict", "/v2/models/plain/infer"])
def test_every_error_has_the_one_body(path: str) -> None:
    made = document()
    statuses = [status for status in made["paths"][path]["post"]["responses"] if status != "200"]
    assert {"400", "404", "413", "429", "500", "502", "503", "504"} <= set(statuses)
    for status in statuses:
        found = answer(made, path, status=status)
        assert found.is_valid({"error": "a sentence"})
        assert not found.is_valid({"error": "a sentence", "more": 1})
        assert not found.is_valid({"error": {"code": 1}})


def test_who_shall_come_back_is_told_when() -> None:
    responses = document()["components"]["responses"]
    assert [status for status, part in responses.items() if "headers" in part] == ["429", "503"]
    assert set(responses["503"]["headers"]) == {"Retry-After"}


@pytest.mark.parametrize("status", ["200", "503"])
def test_health(status: str) -> None:
    found = answer(document(), "/health", "get", status)
    assert found.is_valid({"status": "not ready", "missing": ["Triton is not ready"]})
    assert not found.is_valid({"status": "fine", "missing": []})


# What a handler says


class Own(Handler):
    def preprocess(self, instance: Any) -> Any:
        return instance


class Whole(Handler):
    async def predict(self, call: Any) -> Any:
        return call


class Told(Own):
    instance_schema = {"type": "string"}
    prediction_schema = {"type": "integer"}


def test_a_route_without_handler_serves_tensors() -> None:
    told = described.served("r", Handler, "plain", PLAIN, ("1",))
    assert told == Served("r", "plain", PLAIN, versions=("1",))
    assert told.instance == schema.instance(PLAIN)
    assert told.columnar is PLAIN


def test_a_handler_that_says_nothing() -> None:
    told = described.served("r", Own, "plain", PLAIN)
    assert told.instance.keys() == {"description"}
    assert "instance_schema" in told.instance["description"]
    assert told.prediction == schema.prediction(PLAIN)
    assert told.columnar is None


def test_a_handler_that_predicts_by_itself_and_says_nothing() -> None:
    told = described.served("r", Whole, "plain", PLAIN)
    assert [told.instance.keys(), told.prediction.keys()] == [{"description"}] * 2


def test_a_handlers_word_counts() -> None:
    told = described.served("r", Told, "plain", PLAIN)
    assert (told.instance, told.prediction) == ({"type": "string"}, {"type": "integer"})


def test_a_model_that_is_not_known_yet() -> None:
    told = described.served("r", Handler, "plain")
    assert "nothing is known" in told.instance["description"]
