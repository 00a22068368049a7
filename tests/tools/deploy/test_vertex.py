"""`listener deploy vertex` against a Vertex AI on this machine: what it makes, what it takes up, and what it says."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from google.auth.transport.requests import AuthorizedSession

from listener import cli
from listener.errors import ConfigError
from listener.tools.deploy import calls
from tests.artifacts import emulator as emulators
from tests.artifacts.emulator import Emulator
from tests.integration.stack import wait_for
from tests.integration.terminal import terminal
from tests.tools.deploy.fake_vertex import DIGEST, PROJECT, Failure, Vertex

ROOT = Path(__file__).parents[3]
IMAGE = "us-central1-docker.pkg.dev/my-project/serving/listener:1"
MODEL, ENDPOINT = f"{PROJECT}/models/digits", f"{PROJECT}/endpoints/digits"
MADE = ["models.upload", "endpoints.create", "endpoints.deployModel"]
PLACE = "--region=us-central1 --project=my-project"


@dataclass(frozen=True)
class Ran:
    """What came of a run: its status, what it wrote, and the sentences of its failure."""

    status: int
    out: str
    err: str
    sentences: tuple[str, ...]


def words(vertex: Vertex, *more: str) -> list[str]:
    known = ["--project", "my-project", "--region", "us-central1", "--image", IMAGE]
    return ["deploy", "vertex", "--service", str(ROOT), "--api-endpoint", vertex.url, *known, *more]


Deploy = Callable[..., Ran]


@pytest.fixture
def deploy(vertex: Vertex, own_log: None) -> Deploy:
    def run(*more: str) -> Ran:
        found = CliRunner().invoke(cli.cli, words(vertex, *more))
        failure = found.exception
        if isinstance(failure, ConfigError):
            return Ran(1, found.stdout, found.stderr, failure.mistakes)
        assert failure is None or isinstance(failure, SystemExit), found.exc_info
        return Ran(found.exit_code, found.stdout, found.stderr, ())

    return run


def made(vertex: Vertex) -> list[str]:
    """What was changed, in its order."""
    return [call for call in vertex.asked if call in MADE]


# The whole way


def test_it_uploads_creates_and_deploys(vertex: Vertex, deploy: Deploy) -> None:
    ran = deploy("--accelerator", "T4", "--max-replicas", "3", "--env", "LISTENER_WORKERS=2")
    assert (ran.status, ran.sentences) == (0, ())
    assert made(vertex) == MADE
    (version,) = vertex.models[MODEL]
    assert version["containerSpec"]["imageUri"] == IMAGE
    kind = {"name": "LISTENER_ENDPOINT", "value": "dedicated"}
    assert version["containerSpec"]["env"] == [{"name": "LISTENER_WORKERS", "value": "2"}, kind]
    endpoint = vertex.endpoints[ENDPOINT]
    assert endpoint["dedicatedEndpointEnabled"] is True
    (deployed,) = endpoint["deployedModels"]
    assert (deployed["model"], deployed["modelVersionId"]) == (MODEL, "1")
    resources = deployed["dedicatedResources"]
    assert resources["machineSpec"] == {
        "machineType": "n1-standard-4",
        "acceleratorType": "NVIDIA_TESLA_T4",
        "acceleratorCount": 1,
    }
    assert (resources["minReplicaCount"], resources["maxReplicaCount"]) == (1, 3)
    assert endpoint["trafficSplit"] == {deployed["id"]: 100}


def test_it_says_where_to_ask_and_how_to_end_it(vertex: Vertex, deploy: Deploy) -> None:
    out = deploy().out
    (deployed,) = vertex.endpoints[ENDPOINT]["deployedModels"]
    assert out.startswith("Version 1 of digits is deployed. Predictions:\n")
    assert f"https://digits.us-central1-123.prediction.vertexai.goog/v1/{ENDPOINT}:predict" in out
    assert f"gcloud ai endpoints undeploy-model digits --deployed-model-id={deployed['id']} {PLACE}" in out


def test_what_is_sent_is_what_the_dry_run_prints(vertex: Vertex, deploy: Deploy) -> None:
    printed = deploy("--dry-run").out
    assert vertex.asked == []
    deploy()
    body = vertex.bodies["models.upload"]
    del body["model"]["versionDescription"]  # by which the next run tells it again
    vertex.bodies["endpoints.deployModel"]["deployedModel"]["model"] = MODEL  # and this names the version
    for call in MADE:
        assert f"\n{json.dumps(vertex.bodies[call], indent=2)}\n" in printed


# Again


def test_a_second_run_changes_nothing(vertex: Vertex, deploy: Deploy) -> None:
    deploy()
    del vertex.asked[:]
    ran = deploy()
    assert made(vertex) == []
    assert ran.out.startswith("Version 1 of digits was deployed already, with these machines; nothing was changed.")


def test_another_image_of_the_same_tag_is_another_version(vertex: Vertex, deploy: Deploy) -> None:
    deploy()
    (before,) = vertex.endpoints[ENDPOINT]["deployedModels"]
    vertex.digest = DIGEST.replace("a", "b")
    ran = deploy()
    assert made(vertex) == [*MADE, "models.upload", "endpoints.deployModel"]
    assert [version["versionId"] for version in vertex.models[MODEL]] == ["1", "2"]
    assert vertex.bodies["models.upload"]["parentModel"] == MODEL
    _, after = vertex.endpoints[ENDPOINT]["deployedModels"]
    assert vertex.endpoints[ENDPOINT]["trafficSplit"] == {after["id"]: 100}
    assert f"--deployed-model-id={before['id']} " in ran.out.partition("What got its traffic before")[2]


@pytest.mark.parametrize(
    "other",
    [
        ("--max-replicas", "4"),
        ("--target", "70"),
        ("--machine-type", "g2-standard-8"),
        ("--service-account", "me@my-project.iam.gserviceaccount.com"),
        ("--spot",),
    ],
)
def test_other_machines_are_another_deployment_of_the_same_version(
    vertex: Vertex, deploy: Deploy, other: tuple[str, ...]
) -> None:
    deploy()
    deploy(*other)
    assert made(vertex) == [*MADE, "endpoints.deployModel"]
    assert [each["modelVersionId"] for each in vertex.endpoints[ENDPOINT]["deployedModels"]] == ["1", "1"]


def test_an_older_version_is_found_again(vertex: Vertex, deploy: Deploy) -> None:
    deploy()
    deploy("--env", "LISTENER_WORKERS=2")
    ran = deploy("--max-replicas", "2")
    assert len(vertex.models[MODEL]) == 2
    assert ran.out.startswith("Version 1 of digits is deployed")


def test_of_versions_that_are_the_same_the_newest_is_taken_up(vertex: Vertex, deploy: Deploy) -> None:
    """By their numbers, of which 10 is more than 9; and on whatever page they are."""
    deploy()
    (first,) = vertex.models[MODEL]
    vertex.models[MODEL] = [{**first, "versionId": str(number)} for number in range(1, 11)]
    assert deploy().out.startswith("Version 10 of digits is deployed")


def test_what_has_traffic_of_its_own_is_not_called_idle(vertex: Vertex, deploy: Deploy) -> None:
    deploy()
    deploy("--max-replicas", "2")
    first, second = (each["id"] for each in vertex.endpoints[ENDPOINT]["deployedModels"])
    assert f"--deployed-model-id={first} " in deploy("--max-replicas", "2").out
    vertex.endpoints[ENDPOINT]["trafficSplit"] = {first: 50, second: 50}
    assert f"--deployed-model-id={first} " not in deploy("--max-replicas", "2").out


def test_an_image_by_its_digest_needs_no_look_into_the_registry(vertex: Vertex, deploy: Deploy) -> None:
    vertex.digest = 404
    for _ in range(2):
        assert deploy("--image", f"{IMAGE}@{DIGEST}").status == 0
    assert made(vertex) == MADE


def test_an_image_that_nobody_lets_us_see_is_uploaded_anew(vertex: Vertex, deploy: Deploy) -> None:
    vertex.digest = 403
    deploy()
    deploy()
    assert len(vertex.models[MODEL]) == 2


def test_an_image_that_is_not_there_is_told_before_anything_is_made(vertex: Vertex, deploy: Deploy) -> None:
    vertex.digest = 404
    assert deploy().sentences == (
        f"--image: '{IMAGE}' is not in its registry; push it first, with `docker push {IMAGE}`",
    )
    assert vertex.asked == []


@pytest.mark.parametrize(("kind", "call"), [("models", "models.upload"), ("endpoints", "endpoints.create")])
def test_what_somebody_else_made_is_left_alone(vertex: Vertex, deploy: Deploy, kind: str, call: str) -> None:
    there: Any = {"name": f"{PROJECT}/{kind}/digits", "displayName": "digits"}
    if kind == "models":
        vertex.models[MODEL] = [there]
    else:
        vertex.endpoints[ENDPOINT] = there
    ran = deploy()
    assert ran.sentences[0].startswith(
        f"--name: there is a{'n' * (kind != 'models')} {kind[:-1]} 'digits' in us-central1"
    )
    assert call not in vertex.asked
    assert "endpoints.deployModel" not in vertex.asked


def test_a_time_out_counts_for_both_sides_and_where_the_endpoint_keeps_its_own_that_is_told(
    vertex: Vertex, deploy: Deploy
) -> None:
    assert "keeps its own time-out" not in deploy("--timeout", "300").err
    assert vertex.endpoints[ENDPOINT]["clientConnectionConfig"] == {"inferenceTimeout": "300s"}
    assert {"name": "LISTENER_TIMEOUT", "value": "300"} in vertex.models[MODEL][0]["containerSpec"]["env"]
    assert "keeps its own time-out" not in deploy("--timeout", "300").err
    assert "the endpoint keeps its own time-out of 300s" in deploy("--timeout", "600").err
    del vertex.endpoints[ENDPOINT]["clientConnectionConfig"]  # the platform's own is ten minutes
    assert "keeps its own time-out" not in deploy("--timeout", "600").err
    assert "the endpoint keeps its own time-out of 600s" in deploy("--timeout", "300").err


# Failures, and what they leave


def test_a_deployment_that_ends_with_an_error(vertex: Vertex, deploy: Deploy) -> None:
    vertex.ending["endpoints.deployModel"] = {"code": 9, "message": "Model server never became ready."}
    ran = deploy()
    assert ran.status == 1
    assert ran.sentences[0] == "could not deploy the model: Model server never became ready."
    assert ran.sentences[1].startswith("what its containers wrote: gcloud logging read ")
    assert ran.sentences[2:] == (
        "left there: the model digits, version 1 (it costs nothing while it is not deployed); to take it away: "
        f"gcloud ai models delete digits {PLACE}",
        "left there: the endpoint digits (it costs nothing while nothing is deployed on it); to take it away: "
        f"gcloud ai endpoints delete digits {PLACE}",
        "the same command again goes on from here, with what is there already",
    )


def test_a_failure_beside_what_serves_does_not_say_how_to_end_that(vertex: Vertex, deploy: Deploy) -> None:
    deploy()
    vertex.ending["endpoints.deployModel"] = {"code": 13, "message": "Internal."}
    ran = deploy("--env", "LISTENER_WORKERS=2")
    assert ran.sentences[2:4] == (
        "left there: the model digits, version 2 (it costs nothing while it is not deployed); to take it away: "
        f"gcloud ai models delete-version digits@2 {PLACE}",
        "left there: the endpoint digits, which serves as it did before",
    )
    vertex.ending["endpoints.deployModel"] = {"code": 13, "message": "Internal."}
    ran = deploy("--max-replicas", "2")  # of version 1, which is not alone any more
    assert f"gcloud ai models delete-version digits@1 {PLACE}" in ran.sentences[2]


def test_after_a_failure_the_same_command_goes_on(vertex: Vertex, deploy: Deploy) -> None:
    vertex.ending["endpoints.deployModel"] = {"code": 13, "message": "Internal."}
    deploy()
    ran = deploy()
    assert (ran.status, made(vertex)) == (0, [*MADE, "endpoints.deployModel"])
    assert "Internal" not in ran.err  # an operation that has ended is nobody's business


def test_what_an_earlier_run_began_and_failed_is_told_and_done_again(vertex: Vertex, deploy: Deploy) -> None:
    vertex.failing["endpoints.deployModel"] = [Failure(0, done=True)]
    vertex.ending["endpoints.deployModel"] = {"code": 13, "message": "Internal."}
    deploy()
    vertex.failing["endpoints.deployModel"] = [Failure(400, "Not now.")]
    ran = deploy()
    assert "could not wait for what an earlier run began on the endpoint: Internal." in ran.err
    assert ran.sentences[0] == "refused with status 400: Not now"
    assert not [sentence for sentence in ran.sentences if "the platform goes on" in sentence]
    assert deploy().status == 0
    assert len(vertex.endpoints[ENDPOINT]["deployedModels"]) == 1


def test_an_operation_that_the_platform_has_forgotten_is_told(vertex: Vertex, deploy: Deploy) -> None:
    vertex.failing["models.operations.get"] = [Failure(404, "Not found.")]
    (operation,) = re.findall(r"projects/\S+/operations/\d+", deploy().sentences[0])
    assert operation in vertex.operations


def test_a_failed_upload_leaves_nothing(vertex: Vertex, deploy: Deploy) -> None:
    vertex.ending["models.upload"] = {"code": 7, "message": "Cannot read the image"}
    assert deploy().sentences == (
        "could not upload the model: Cannot read the image - the platform's own account has to be able to read image "
        "and artefacts",
    )
    assert vertex.models == {}


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        (
            8,
            "Quota exceeded: custom_model_serving_nvidia_l4_gpus",
            "https://console.cloud.google.com/iam-admin/quotas?",
        ),
        (8, "No capacity in the region", "this region has no such machine free now"),
        (4, "The deployment timed out", "give it longer with --deployment-timeout"),
        (7, "Cannot pull the image", "has to be able to read image and artefacts"),
        (1, "", "somebody cancelled it"),
    ],
)
def test_what_the_end_of_an_operation_means(vertex: Vertex, deploy: Deploy, code: int, message: str, said: str) -> None:
    vertex.ending["endpoints.deployModel"] = {"code": code, "message": message}
    ran = deploy()
    assert said in ran.sentences[0]
    assert ("gcloud logging read" in ran.sentences[1]) is (code == 4)


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (
            401,
            "Request had invalid authentication credentials.",
            "sign in with `gcloud auth application-default login`",
        ),
        (403, "Permission 'aiplatform.models.upload' denied", "roles/aiplatform.user on the project"),
        (
            403,
            "Vertex AI API has not been used in project 1 before or it is disabled.",
            "`gcloud services enable aiplatform.googleapis.com --project=my-project`",
        ),
        (400, "Image is too old.", "refused with status 400: Image is too old"),
        (429, "Quota exceeded for custom_model_serving_cpus.", "the quota does not suffice"),
        (500, "Internal.", "refused with status 500: Internal"),  # which does not say that nothing has begun
        (502, "Bad gateway.", "refused with status 502: Bad gateway"),
    ],
)
@pytest.mark.parametrize("call", MADE)
def test_a_refusal_is_told_at_once(
    vertex: Vertex, deploy: Deploy, call: str, status: int, message: str, said: str
) -> None:
    vertex.failing[call] = [Failure(status, message)]
    ran = deploy()
    assert said in ran.sentences[0]
    assert made(vertex) == MADE[: MADE.index(call) + 1]


@pytest.mark.parametrize(
    "failure",
    [
        Failure(429, "Quota exceeded for requests per minute."),
        Failure(429, "Slow down.", headers={"Retry-After": "0"}),
        Failure(503, "Soon."),
    ],
    ids=["per minute", "too many", "unavailable"],
)
def test_what_passes_is_tried_again(vertex: Vertex, deploy: Deploy, failure: Failure) -> None:
    vertex.failing["models.upload"] = [failure]
    assert deploy().status == 0
    assert made(vertex) == ["models.upload", *MADE]


def test_it_waits_as_long_as_it_is_asked_to(vertex: Vertex, deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(calls, "time", SimpleNamespace(sleep=waited.append))
    vertex.failing["models.upload"] = [Failure(503, "Soon.", headers={"Retry-After": "7"})]
    assert deploy().status == 0
    assert waited == [7.0]


@pytest.mark.parametrize("status", [0, 408, 429, 500, 502, 503, 504])
def test_a_look_is_repeated(vertex: Vertex, deploy: Deploy, status: int) -> None:
    vertex.failing["models.operations.get"] = [Failure(status, "Oh.")] * 2
    assert deploy().status == 0
    assert made(vertex) == MADE


def test_a_connection_that_breaks_while_something_begins_does_not_begin_it_twice(
    vertex: Vertex, deploy: Deploy
) -> None:
    vertex.failing["endpoints.deployModel"] = [Failure(0, done=True)]
    ran = deploy()
    assert ran.sentences[0].endswith("before it said whether that has begun; the same command again finds out")
    assert vertex.endpoints[ENDPOINT]["deployedModels"] == []  # it is under way
    ran = deploy()
    assert (ran.status, len(vertex.endpoints[ENDPOINT]["deployedModels"])) == (0, 1)
    assert made(vertex) == MADE


def test_nobody_answers(vertex: Vertex, deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_LIMIT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ran = deploy("--api-endpoint", f"http://127.0.0.1:{port}")
    assert re.search(
        rf"127\.0\.0\.1:{port}: the connection .* was lost .*; tried again until nothing helped", ran.sentences[0]
    )


def test_who_follows_a_deployment_in_vain_says_what_it_will_cost(
    vertex: Vertex, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that began it, and the next one, which finds it under way."""
    deploy()
    monkeypatch.setattr(calls, "FOLLOWING", 0.3)
    vertex.looks = 5
    costs = (
        "the platform goes on with it by itself, and costs money from then on;",
        "the platform goes on with it by itself;",
    )
    for words in costs:
        vertex.failing["endpoints.operations.get"] = [Failure(503, "Oh.")] * 100
        ran = deploy("--max-replicas", "2")
        (operation,) = (name for name, each in vertex.operations.items() if each["made"])
        assert ran.sentences[-2] == (
            f"{words} to see how far it is: gcloud ai operations describe {operation.rpartition('/')[2]} {PLACE}"
        )


def test_whoever_follows_in_vain_says_that_the_platform_goes_on(
    vertex: Vertex, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "FOLLOWING", 0.3)
    vertex.failing["endpoints.operations.get"] = [Failure(503, "Oh.")] * 100
    vertex.looks = 5
    ran = deploy()
    assert ran.sentences[0].endswith("Oh; tried again until nothing helped")
    (number,) = {name.rpartition("/")[2] for name in vertex.operations if name.startswith(ENDPOINT)}
    assert ran.sentences[-2] == (
        f"the platform goes on with it by itself; to see how far it is: gcloud ai operations describe {number} {PLACE}"
    )
    vertex.failing.clear()
    assert deploy().status == 0
    assert made(vertex) == MADE


def test_without_credentials_it_says_how_to_get_some(
    own_log: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(
        ConfigError, match=r"no credentials: .*none\.json.*; sign in with `gcloud auth application-default"
    ):
        calls.Api("my-project", "us-central1")


def test_a_persons_credentials_are_counted_against_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "person.json"
    known = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    for given, counted in (({}, "my-project"), ({"quota_project_id": "other"}, "other")):
        file.write_text(json.dumps({**known, **given}))
        api = calls.Api("my-project", "us-central1")
        assert api.address == "https://us-central1-aiplatform.googleapis.com"
        assert isinstance(api.session, AuthorizedSession)
        assert api.session.credentials.quota_project_id == counted


def test_a_platform_that_tells_nothing_of_what_is_not_there_is_no_obstacle(vertex: Vertex, deploy: Deploy) -> None:
    vertex.failing["models.operations.list"] = [Failure(400, "Invalid name.")]
    assert deploy().status == 0
    vertex.failing["models.operations.list"] = [Failure(403, "Permission denied")]  # which everything would be
    assert deploy().sentences[0].startswith("not permitted: Permission denied")


def test_an_endpoint_that_is_on_its_way_is_told(vertex: Vertex, deploy: Deploy) -> None:
    vertex.failing["endpoints.create"] = [Failure(409, "It is there.")]
    ran = deploy()
    assert ran.sentences[0] == "the endpoint digits is being made or removed just now; try again soon"


# Artefacts


@pytest.fixture(scope="module")
def storage() -> Iterator[Emulator]:
    with emulators.running() as running:
        yield running


def test_other_artefacts_at_the_same_place_are_another_version(
    vertex: Vertex, deploy: Deploy, storage: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
    storage.put("models", {"repo/digits/1/model.onnx": "one", "repo/digits/config.pbtxt": ""})
    artefacts = ["--artifact-uri", "gs://models/repo"]
    deploy(*artefacts)
    deploy(*artefacts)
    assert [version["artifactUri"] for version in vertex.models[MODEL]] == ["gs://models/repo"]
    storage.put("models", {"repo/digits/1/model.onnx": "two"})
    deploy(*artefacts)
    assert len(vertex.models[MODEL]) == 2


def test_artefacts_that_cannot_be_served_are_told_before_anything_is_made(
    vertex: Vertex, deploy: Deploy, storage: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
    storage.put("pictures", {"cats/tom.jpg": "tom"})
    (sentence,) = deploy("--artifact-uri", "gs://pictures/cats").sentences
    assert sentence.startswith("gs://pictures/cats")
    assert vertex.asked == []


# Ctrl-C, and what is seen meanwhile


def command(vertex: Vertex) -> list[str]:
    return [sys.executable, "-m", "listener", *words(vertex)]


def clean() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AIP_", "LISTENER_"))}


def test_ctrl_c_says_how_to_go_on_and_the_next_run_does(vertex: Vertex, deploy: Deploy) -> None:
    vertex.looks = 1_000_000
    process = subprocess.Popen(command(vertex), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean())
    try:
        wait_for(lambda: any(name.startswith(MODEL) for name in vertex.operations), 20.0, lambda: "nothing was begun")
        wait_for(lambda: "models.operations.get" in vertex.bodies, 20.0, lambda: "nobody looked")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    (operation,) = vertex.operations
    number = operation.rpartition("/")[2]
    said = [line for line in err.splitlines() if line.startswith("listener: ")]
    assert (process.returncode, said) == (
        130,
        [
            "listener: stopped",
            "listener: the platform goes on with it by itself; to see how far it is: "
            f"gcloud ai operations describe {number} {PLACE}",
            "listener: the same command again goes on from here, with what is there already",
        ],
    )
    vertex.operations[operation]["left"] = vertex.looks = 2
    assert deploy().status == 0
    assert made(vertex) == MADE


def test_lines_say_each_stage_off_a_terminal(vertex: Vertex) -> None:
    done = subprocess.run(command(vertex), capture_output=True, text=True, env=clean(), timeout=60)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["logger"] for line in lines} == {"listener.deploy"}  # the client of Google's is not heard
    messages = [line["message"] for line in lines]
    assert [re.sub(r", \d+ s$", "", message) for message in messages] == [
        "upload the model: under way",
        "uploaded version 1 of the model digits",
        "create the endpoint: under way",
        "created the endpoint digits",
        "deploy the model: starting model server",
    ]
    assert done.stdout.startswith("Version 1 of digits is deployed")


def test_a_line_turns_at_a_terminal(vertex: Vertex) -> None:
    vertex.looks = 3
    with terminal(command(vertex), {**clean(), "TERM": "xterm", "COLUMNS": "200"}, ROOT) as screen:
        screen.until("deploy the model: starting model server", 60.0)
        screen.until("It costs money until it is taken away", 60.0)
        assert screen.wait() == 0
    assert "uploaded version 1 of the model digits\n" in screen.text
    assert "listener.deploy" not in screen.text
