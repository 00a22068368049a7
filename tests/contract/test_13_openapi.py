"""13. /openapi.json: an OpenAPI document that is true. schemathesis makes requests of it, good and broken ones.

Of the suite's models those are left out that are made to fail or to be slow: `failing`, `slow`, `counting`, `talking`;
and `greeting`, whose code takes no bytes but UTF-8.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import OpenAPIV30SpecValidator

from listener import cli
from listener.contract import openapi, schema
from tests.contract import models
from tests.contract.target import Target, refused

Document = dict[str, Any]

pytestmark = pytest.mark.triton

#: Everything that schemathesis looks at but what is not there: no log-in, and nothing that a request creates.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "missing_required_header",
)
WHATEVER_IS_SENT = {
    *(f"identity_{datatype.lower()}" for datatype in models.DATATYPES),
    *("add_sub", "matrix", "variable", "unbatched", "upper", "picture", "not_finite", "labelled", "optional"),
    *("ragged", "padded", "versions"),
}
#: -9223372036854775809 is none of INT64's, but a JSON reader makes the nearest double of it, which is.
REFUSES_ALL_ELSE = WHATEVER_IS_SENT - {"identity_int64"}
#: Not those that Triton itself lets down: of a model with optional inputs it counts the inputs and does not look which
#: they are, so `optional` fails for want of another; and it writes bytes that are no UTF-8 into its JSON, which those
#: of `picture` are where they are cut off.
INFERS = WHATEVER_IS_SENT - {"optional", "picture"}
#: One of each kind, for the run that `make test` has time for.
SOME = {"identity_bool", "identity_uint64", "identity_bf16", "identity_fp32", "identity_bytes", "add_sub", "matrix"}
SOME |= {"unbatched", "picture", "labelled", "optional", "versions"}


@pytest.fixture(scope="session")
def document(target: Target) -> Document:
    """What the container says."""
    answer = target.get("/openapi.json")
    assert (answer.status, answer.media_type) == (200, "application/json")
    found: Document = answer.json()
    return found


# By itself


def test_it_is_valid(document: Document) -> None:
    OpenAPIV30SpecValidator(document).validate()


def test_it_names_everything_that_can_be_chosen(target: Target, document: Document) -> None:
    listed = document[openapi.EXTENSION]
    assert set(listed["served"]) == set(target.get("/v1/models").json()["models"])
    assert listed["default"] == models.DEFAULT


def test_every_get_path_answers(target: Target, document: Document) -> None:
    for path, item in document["paths"].items():
        if "get" in item:
            assert target.get(path).status == 200, path


def test_every_post_path_reads_its_body(target: Target, document: Document) -> None:
    for path, item in document["paths"].items():
        if "post" in item:
            refused(target.post(path, b"{", {"Content-Type": "application/json"}), 400)


def test_the_instances_of_the_default_model_need_no_choice(target: Target, document: Document) -> None:
    body = document["paths"][target.predict_route]["post"]["requestBody"]["content"]["application/json"]["schema"]
    found = OAS30Validator(schema.resolved(body, document["components"]["schemas"]))
    assert found.is_valid({"instances": [[1.5, "NaN"]]})
    assert found.is_valid({"instances": [{"A": [1] * 4, "B": [2] * 4}], "parameters": {"model": "add_sub"}})
    assert not found.is_valid({"instances": [{"A": [1] * 4, "B": [2] * 4}]})
    assert target.predictions([[1.5, "NaN"]]) == [[1.5, None]]


def test_the_files_for_vertex_say_the_same(target: Target, repository: Path) -> None:
    def told(name: str, *source: str) -> list[Any]:
        done = CliRunner().invoke(cli.cli, ["schema", "--model", name, *source])
        assert done.exit_code == 0, done.output
        return list(yaml.safe_load_all(done.stdout))

    for name in models.MODELS:
        here = told(name, "--repository", str(repository), "--default-model", models.DEFAULT)
        there = told(name, "--url", f"http://{target.host}:{target.port}")
        assert (here[0], here[2]) == (there[0], there[2])  # the versions of a model are known to Triton alone


# What a client makes of it


def chosen(document: Document, names: Collection[str], infer: Collection[str] = ()) -> Document:
    """A document with the paths of some models only, and of others below /v2; those of none stay.

    Paths with the only version of a model say the same as those without it.
    """
    made = copy.deepcopy(document)
    for path in list(made["paths"]):
        found = re.match(r"/(v[12])/models/([^/:]+)(/versions/)?", path)
        if found and found[2] != "stats":
            wanted = found[2] in (names if found[1] == "v1" else infer)
            if not wanted or (found[3] and models.MODELS[found[2]].versions == 1):
                del made["paths"][path]
    for forms in _forms(made):
        forms[:] = [form for form in forms if _whose(form) in names]
    return made


def by_instances(document: Document, names: Collection[str], predict_route: str = "/v1/models/") -> Document:
    """Predictions in JSON alone, by instances and by columns, whose form the schemas tell to the last.

    Args:
        document: the whole one.
        names: of models.
        predict_route: the platform's, to have it too.
    """
    made = chosen(document, names)
    kept = ("/v1/models/", predict_route)
    made["paths"] = {p: item for p, item in made["paths"].items() if p.endswith(":predict") and p.startswith(kept)}
    for item in made["paths"].values():
        content = item["post"]["requestBody"]["content"]
        item["post"]["requestBody"]["content"] = {"application/json": content["application/json"]}
    for forms in _forms(made):
        forms[:] = [form for form in forms if "allOf" not in form]
    return made


def with_one_row(document: Document, names: Collection[str]) -> Document:
    """A request's rows have to be alike, which no schema can say; one row is."""
    made = copy.deepcopy(document)
    for forms in _forms(made):
        for form in forms:
            form["properties"].get("instances", {})["maxItems"] = 1
    named = made["components"]["schemas"]
    for name in names:
        if models.MODELS[name].max_batch_size:
            for form in named[f"{name}.inputs"]["anyOf"]:
                for rows in (
                    form,
                    *(each["anyOf"][0] for each in form.get("properties", {}).values() if "anyOf" in each),
                ):
                    if rows.get("type") == "array":
                        rows["maxItems"] = 1
    return made


def _forms(document: Document) -> Iterator[list[Any]]:
    """The forms of the JSON bodies of each route for predictions."""
    for path, item in document["paths"].items():
        if path.endswith(":predict"):
            yield item["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"]


def _whose(form: Any) -> str:
    """The model that a form is for."""
    part = form["allOf"][0] if "allOf" in form else form["properties"]["parameters"]
    return re.sub(r"\.(parameters(\.by_\w+)?|infer\.request)$", "", str(part["$ref"]).rpartition("/")[2])


def run(folder: Path, target: Target, document: Document, examples: int, mode: str, *checks: str) -> None:
    """Lets schemathesis send requests of a document, and complains of what it finds.

    Args:
        folder: an empty one.
        target: is asked.
        document: what to ask.
        examples: random requests for each operation, beside those that the schemas suggest.
        mode: positive, negative or all.
        checks: of each answer, beside `CHECKS`.
    """
    (folder / "openapi.json").write_text(json.dumps(document))
    command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json"]
    command += ["--url", f"http://{target.host}:{target.port}", "--request-timeout", "30", "--mode", mode]
    command += ["--checks", ",".join([*CHECKS, *checks]), "--phases", "examples,coverage,fuzzing"]
    command += ["--max-examples", str(examples), "--seed", "13", "--generation-database", "none", "--no-shrink"]
    command += ["--continue-on-failure", "--suppress-health-check", "all", "--no-color"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, f"{done.stdout[-20000:]}\n{done.stderr[-2000:]}"
    count = re.search(r"(\d+) generated", done.stdout)
    assert count and int(count[1]) > 50 * len(document["paths"]), done.stdout


def test_whatever_satisfies_the_schemas_is_accepted(target: Target, document: Document, tmp_path: Path) -> None:
    sent = with_one_row(by_instances(document, SOME), SOME)
    run(tmp_path, target, sent, 10, "positive", "positive_data_acceptance")


def test_whatever_violates_the_schemas_is_refused(target: Target, document: Document, tmp_path: Path) -> None:
    sent = by_instances(document, SOME & REFUSES_ALL_ELSE)
    run(tmp_path, target, sent, 10, "negative", "negative_data_rejection")


def test_every_answer_is_one_of_those_that_are_told(target: Target, document: Document, tmp_path: Path) -> None:
    """Below /v2 it is Triton that says what it accepts; it reads less strictly than its protocol, and more."""
    run(
        tmp_path, target, chosen(document, {"add_sub", "identity_bytes", "versions"}, {"add_sub", "labelled"}), 5, "all"
    )


@pytest.mark.long
def test_at_length(target: Target, document: Document, tmp_path: Path) -> None:
    for name in ("accepted", "refused", "told"):
        (tmp_path / name).mkdir()
    sent = with_one_row(by_instances(document, WHATEVER_IS_SENT, target.predict_route), WHATEVER_IS_SENT)
    run(tmp_path / "accepted", target, sent, 40, "positive", "positive_data_acceptance")
    sent = by_instances(document, REFUSES_ALL_ELSE, target.predict_route)
    run(tmp_path / "refused", target, sent, 40, "negative", "negative_data_rejection")
    run(tmp_path / "told", target, chosen(document, INFERS, INFERS), 15, "all")
