"""`listener schema`: three files from a service, a repository or a running listener, and what can be wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from click.testing import CliRunner, Result
from openapi_schema_validator import OAS30Validator

from listener import cli
from listener.contract import openapi
from listener.contract.served import Served
from listener.tensors import ModelSpec, TensorSpec
from tests.http_server import Answering, serving
from tests.tools.tiny_service import Tiny, onnx_file

pytestmark = pytest.mark.usefixtures("own_imports")

FILES = ["instance.yaml", "parameters.yaml", "prediction.yaml"]
HANDLER = """
class H(Handler):
    model = "tiny"
    instance_schema = {"type": "string", "maxLength": 3}
    prediction_schema = {"enum": ["a", "b"]}
    def preprocess(self, instance): return {}
    def postprocess(self, outputs): return "a"
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.cli, ["schema", *map(str, arguments)])


def told(*arguments: str | Path) -> list[Any]:
    """The schemas of one instance, the parameters and one prediction, each a valid one."""
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    schemas = list(yaml.safe_load_all(done.stdout))
    assert len(schemas) == 3
    for schema in schemas:
        OAS30Validator.check_schema(schema)
        assert "$ref" not in json.dumps(schema)
    return schemas


def accepts(schema: Any, value: Any) -> bool:
    return bool(OAS30Validator(schema).is_valid(value))


def wrong(*arguments: str | Path) -> str:
    """The one sentence of a run that fails."""
    done = run(*arguments)
    assert done.exit_code == 1
    error = done.exception
    sentences = getattr(error, "mistakes", None)
    assert sentences is not None and len(sentences) == 1, (done.output, error)
    (sentence,) = sentences
    assert "\n" not in sentence
    return str(sentence)


# A service


def test_a_route_without_handler(tiny: Tiny) -> None:
    instance, parameters, prediction = told("--service", tiny.folder)
    assert accepts(instance, [1.5, "NaN"])
    assert not accepts(instance, [1.5])
    assert accepts(parameters, {})
    assert accepts(parameters, {"model": "tiny"})
    assert accepts(prediction, [0.5, None])
    assert not accepts(prediction, ["a", "b"])


def test_a_handler_that_tells(tiny: Tiny) -> None:
    tiny.handler(HANDLER)
    instance, _, prediction = told("--service", tiny.folder)
    assert instance == {"type": "string", "maxLength": 3}
    assert prediction == {"enum": ["a", "b"]}


def test_a_handler_that_tells_needs_no_repository(tiny: Tiny) -> None:
    tiny.handler(HANDLER)
    tiny.yaml.write_text("repository: nowhere\nroutes:\n  tiny:\n    handler: handlers.mine:H\n")
    assert told("--service", tiny.folder)[0] == {"type": "string", "maxLength": 3}


def test_a_handler_that_does_not_tell(tiny: Tiny) -> None:
    tiny.handler("class H(Handler):\n model = 'tiny'\n def preprocess(self, instance): return {}")
    instance, _, prediction = told("--service", tiny.folder)
    assert instance.keys() == {"description"}
    assert "instance_schema" in instance["description"]
    assert accepts(prediction, [1, 2])


def test_what_a_handler_prints_is_not_in_the_yaml(tiny: Tiny) -> None:
    tiny.handler(f"print('hello')\n{HANDLER}")
    assert "hello" not in run("--service", tiny.folder).stdout


def test_another_route_has_to_be_named(tiny: Tiny) -> None:
    tiny.yaml.write_text("default: tiny\nroutes:\n  tiny: {}\n  other: {model: tiny}\n")
    _, parameters, _ = told("--service", tiny.folder, "--model", "other")
    assert accepts(parameters, {"model": "other"})
    assert not accepts(parameters, {})


def test_a_model_that_has_no_route(tiny: Tiny) -> None:
    onnx_file(tiny.repository / "free" / "1" / "model.onnx", ("N", 5), ("N", 5))
    instance, parameters, _ = told("--service", tiny.folder, "--model", "free")
    assert accepts(instance, [1, 2, 3, 4, 5])
    assert not accepts(parameters, {})


def test_a_repository_alone_without_configuration(tiny: Tiny) -> None:
    tiny.config.unlink()
    instance, _, prediction = told("--repository", tiny.repository)
    assert accepts(instance, [1, 2])
    assert accepts(prediction, [1.5, 2])


def test_files(tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "a b" / "out"
    done = run("--service", tiny.folder, "--out", out)
    assert done.exit_code == 0
    assert sorted(file.name for file in out.iterdir()) == FILES
    for name, schema in zip(FILES, told("--service", tiny.folder), strict=True):
        assert yaml.safe_load((out / name).read_text()) == schema
        assert f"'{out / name}'" in done.stdout
    assert '"predictionSchemaUri": "gs://BUCKET/schemata/prediction.yaml"' in done.stdout


# What can be wrong


def test_no_service(tmp_path: Path) -> None:
    assert wrong("--service", tmp_path).startswith(f"{tmp_path / 'listener.yaml'}: no such file")


def test_an_unknown_model(tiny: Tiny) -> None:
    assert wrong("--service", tiny.folder, "--model", "tinny") == f"{tiny.yaml}: no model 'tinny'; did you mean 'tiny'?"
    assert wrong("--service", tiny.folder, "--model", "x") == f"{tiny.yaml}: no model 'x'; there are tiny"
    assert wrong("--service", tiny.folder, "--model", "").endswith("no model ''; there are tiny")
    assert wrong("--repository", tiny.repository, "--model", "../tiny").startswith(f"{tiny.repository}: no model")


def test_a_route_whose_model_is_not_there(tiny: Tiny) -> None:
    tiny.yaml.write_text("routes:\n  tiny: {model: tinny}\n")
    place = f"{tiny.yaml}:2: routes.tiny.model"
    assert wrong("--service", tiny.folder) == f"{place}: no model 'tinny'; did you mean 'tiny'?"


def test_no_handler(tiny: Tiny) -> None:
    tiny.handler("class G(Handler): pass")
    assert wrong("--service", tiny.folder).endswith("has no class 'H'; it has 'G'")


def test_several_models_and_no_choice(tiny: Tiny) -> None:
    onnx_file(tiny.repository / "free" / "1" / "model.onnx")
    assert told("--repository", tiny.repository, "--default-model", "free")[0]["title"] == "An instance of free"
    assert wrong("--repository", tiny.repository) == f"{tiny.repository}: serves free, tiny; choose one with --model"


def test_no_repository_and_an_empty_one(tmp_path: Path) -> None:
    assert wrong("--repository", tmp_path / "x").startswith(f"{tmp_path / 'x'}: no such folder")
    assert wrong("--repository", tmp_path).startswith(f"{tmp_path}: ")


def test_no_configuration_and_nothing_else_that_tells(tiny: Tiny) -> None:
    (tiny.repository / "code" / "1").mkdir(parents=True)
    (tiny.repository / "code" / "1" / "model.py").write_text("def auto_complete_config(): pass")
    sentence = wrong("--repository", tiny.repository, "--model", "code")
    assert sentence.startswith(f"{tiny.repository}/code/config.pbtxt: does not exist, and nothing else tells")
    assert sentence.endswith("--url URL --model code")


def test_a_configuration_without_tensors(tiny: Tiny) -> None:
    (tiny.repository / "code" / "1").mkdir(parents=True)
    (tiny.repository / "code" / "1" / "model.py").write_text("pass")
    (tiny.repository / "code" / "config.pbtxt").write_text('backend: "python"')
    sentence = wrong("--repository", tiny.repository, "--model", "code")
    assert "code/config.pbtxt: does not declare name, data_type and dims of every input and output" in sentence


def test_a_broken_configuration(tiny: Tiny) -> None:
    tiny.config.write_text("inputs {}")
    assert wrong("--repository", tiny.repository).startswith(f"{tiny.config}:1: not a model configuration")


def test_a_folder_that_cannot_be_written(tiny: Tiny) -> None:
    assert wrong("--service", tiny.folder, "--out", tiny.yaml).endswith("cannot be written: File exists")


@pytest.mark.parametrize("option", ["--service", "--repository", "--default-model"])
def test_a_running_listener_and_files(tiny: Tiny, option: str) -> None:
    done = run("--url", "http://127.0.0.1:1", option, tiny.folder)
    assert done.exit_code == 2
    assert "--url asks a listener that runs, which has its own service and repository" in done.output


def test_a_repository_in_the_cloud() -> None:
    assert wrong("--repository", "gs://bucket/models").startswith("gs://bucket/models: lies in Cloud Storage")


# A running listener

SPEC = ModelSpec("m", (TensorSpec("X", "INT64", (2,)),), (TensorSpec("Y", "FP32", (1,)),), 4)
DOCUMENT = openapi.document(
    "t",
    "1",
    openapi.Routes("/predict", "/health", "m"),
    [Served("m", "m", SPEC, versions=("1",)), Served("own", "m", SPEC, {"type": "string"}, {})],
)


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[str]:
    """A server that says the same to everybody."""

    class Fixed(Answering):
        def do_GET(self) -> None:
            self.answer(status if self.path == "/openapi.json" else 404, body)

    with serving(Fixed) as url:
        yield url


def test_a_running_listener_tells_the_same_as_its_files() -> None:
    with answering(orjson.dumps(DOCUMENT)) as url:
        instance, parameters, prediction = told("--url", f"{url}/")
        assert told("--url", f"{url}/openapi.json")[0] == instance
        assert told("--url", f"{url}/predict")[0] == instance
        own = told("--url", url, "--model", "own")
    assert accepts(instance, ["9223372036854775807", 3.0])
    assert not accepts(instance, ["9223372036854775808", 3.0])
    assert accepts(parameters, {"version": 1})
    assert not accepts(parameters, {"version": 2})
    assert accepts(prediction, [1.5])
    assert own[0] == {"type": "string"}
    assert own[2].keys() == {"description"}
    assert not accepts(own[1], {})


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"<html>", 200, "/openapi.json: is not the OpenAPI document of a listener (JSONDecodeError)"),
        (b"[]", 200, "/openapi.json: is not the OpenAPI document of a listener (TypeError)"),
        (b'{"openapi": "3.0.3"}', 200, "/openapi.json: is not the OpenAPI document of a listener (KeyError)"),
        (b"not\nyet", 503, "/openapi.json: answered 503: not yet"),
    ],
)
def test_other_answers(body: bytes, status: int, sentence: str) -> None:
    with answering(body, status) as url:
        assert wrong("--url", url) == url + sentence


def test_an_unknown_model_of_a_running_listener() -> None:
    with answering(orjson.dumps(DOCUMENT)) as url:
        assert wrong("--url", url, "--model", "n") == f"{url}/openapi.json: no model 'n'; there are m, own"


def test_nobody_there() -> None:
    assert wrong("--url", "http://127.0.0.1:1").startswith("http://127.0.0.1:1/openapi.json: no answer: ")
    assert wrong("--url", "localhost:80") == "--url 'localhost:80' is not a URL such as http://127.0.0.1:8080"


# Routes of several steps


def test_a_route_of_several_steps_is_told_by_its_steps(tiny: Tiny) -> None:
    tiny.handler(HANDLER)
    tiny.yaml.write_text("routes: {r: {sequence: [mine, tiny]}}\nnodes: {mine: {handler: 'handlers.mine:H'}}\n")
    instance, parameters, prediction = told("--service", tiny.folder)
    assert instance == {"type": "string", "maxLength": 3}
    assert accepts(prediction, [0.5, None])
    assert accepts(parameters, {"model": "r"})
    assert not accepts(parameters, {"version": 1})


def test_a_model_that_a_route_of_several_steps_lacks(tiny: Tiny) -> None:
    tiny.yaml.write_text("routes:\n  r: {fallback: [tiny, other]}\n")
    assert wrong("--service", tiny.folder).endswith(
        "listener.yaml:2: routes.other.model: no model 'other'; there are tiny"
    )


def test_a_handlers_example_stands_in_the_schema_of_an_instance(tiny: Tiny) -> None:
    tiny.handler(HANDLER + "    example = b'abc'\n")
    instance, _, _ = told("--service", tiny.folder)
    assert instance["example"] == {"b64": "YWJj"}
