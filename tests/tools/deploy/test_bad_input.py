"""What is wrong with the options of `listener deploy` is a line with the option and the reason, and nothing is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from listener import cli
from listener.errors import ConfigError

ROOT = Path(__file__).parents[3]
GOOD = {
    "--project": "my-project",
    "--region": "us-central1",
    "--image": "us-central1-docker.pkg.dev/my-project/serving/listener:1",
}


def mistakes(*more: str, target: str = "vertex", service: Path = ROOT) -> tuple[str, ...]:
    """Of a command line; what is given more than once counts as it stands last."""
    known = [word for pair in GOOD.items() for word in pair]
    found = CliRunner().invoke(cli.cli, ["deploy", target, "--service", str(service), *known, *more, "--dry-run"])
    if isinstance(found.exception, ConfigError):
        return found.exception.mistakes
    assert found.exit_code == 0, found.output
    return ()


@pytest.mark.parametrize(
    ("words", "beginning"),
    [
        (["--project", ""], "--project is missing: "),
        (["--project", "My Project"], "--project: 'My Project' is no project's id "),
        (["--region", ""], "--region is missing: "),
        (["--region", "us-cntral1"], "--region: 'us-cntral1' is no region with Vertex AI; did you mean us-central1?"),
        (["--region", "europe-west4-b"], "--region: 'europe-west4-b' is no region with Vertex AI; it is a zone of"),
        (["--region", "us"], "--region: 'us' is no region with Vertex AI"),
        (["--image", ""], "--image is missing: "),
        (["--image", "listener:1"], "--image: 'listener:1' is no path in a registry, "),
        (["--image", "localhost:5000/listener"], "--image: 'localhost:5000/listener' is no path in a registry, "),
        (
            ["--image", "nvcr.io/nvidia/tritonserver:25.10-py3"],
            "--image: 'nvcr.io/nvidia/tritonserver:25.10-py3' lies on nvcr.io; the platform",
        ),
        (
            ["--image", "us-docker.pkg.dev/my-project/listener"],
            "--image: 'us-docker.pkg.dev/my-project/listener' lacks a part",
        ),
        (["--image", "gcr.io/my-project/Listener"], "--image: 'gcr.io/my-project/Listener' is no path in a registry"),
        (["--artifact-uri", "models/repo"], "--artifact-uri: 'models/repo' is no place in Cloud Storage; write gs://"),
        (["--artifact-uri", "gs://B/x"], "--artifact-uri: 'gs://B/x' "),
        (["--name", "Digits"], "--name: 'Digits' is no name: "),
        (["--name", "9digits"], "--name: '9digits' is no name: "),
        (["--name", "digits-"], "--name: 'digits-' is no name: "),
        (["--name", "d" * 64], f"--name: '{'d' * 64}' is no name: "),
        (["--service-account", "me@example.com"], "--service-account: 'me@example.com' is no service account"),
        (
            ["--machine-type", "n2-standard-4", "--accelerator", "T4"],
            "--machine-type: n2-standard-4 takes no accelerators; NVIDIA_TESLA_T4 goes with n1",
        ),
        (
            ["--machine-type", "n1-standard-4", "--accelerator", "L4"],
            "--machine-type: n1-standard-4 does not take NVIDIA_L4, which goes with g2-standard-4",
        ),
        (
            ["--machine-type", "n1-standard-4", "--accelerator", "T4:3"],
            "--machine-type: n1-standard-4 takes 1, 2, 4 NVIDIA_TESLA_T4, not 3",
        ),
        (
            ["--machine-type", "n1-standard-64", "--accelerator", "T4"],
            "--machine-type: n1-standard-64 has more than the 48 CPUs that 1 NVIDIA_TESLA_T4 go with",
        ),
        (
            ["--machine-type", "g2-standard-4", "--accelerator", "T4"],
            "--machine-type: g2-standard-4 has 1 NVIDIA_L4 in it, not NVIDIA_TESLA_T4",
        ),
        (
            ["--machine-type", "g2-standard-4", "--accelerator", "none"],
            "--machine-type: g2-standard-4 has 1 NVIDIA_L4 in it, not none",
        ),
        (
            ["--machine-type", "g2-standard-4", "--accelerator", "L4:2"],
            "--machine-type: g2-standard-4 has 1 NVIDIA_L4 in it, not 2",
        ),
        (["--accelerator", "L4:3"], "--machine-type is missing: name one with L4:3"),
        (["--accelerator", "T4:x"], "--accelerator: 'T4:x' is no accelerator"),
        (
            ["--machine-type", "z9-giant-1", "--accelerator", "T5"],
            "deploy the model: deployedModel.dedicatedResources.machineSpec.acceleratorType: 'T5' is none",
        ),
        (
            ["--min-replicas", "0"],
            "--min-replicas: 0 is not between 1 and 1000 (scaling to none is a preview of the platform",
        ),
        (["--min-replicas", "3", "--max-replicas", "2"], "--max-replicas: 2 is less than --min-replicas, 3"),
        (["--target", "101"], "--target: 101 is not between 1 and 100 percent"),
        (["--target", "0"], "--target: 0 is not between 1 and 100 percent"),
        (["--deployment-timeout", "0"], "--deployment-timeout: 0 is not between 1 and 7200 seconds"),
        (["--timeout", "0"], "--timeout: 0 is not between 1 and 3600 seconds"),
        (["--shared-memory", "63"], "--shared-memory: 63 is not between 64 and 1048576 megabytes"),
        (["--shared-memory", "1048577"], "--shared-memory: 1048577 is not between 64 and 1048576 megabytes"),
        (["--deployment-timeout", "7201"], "--deployment-timeout: 7201 is not between 1 and 7200 seconds"),
        (["--timeout", "3601"], "--timeout: 3601 is not between 1 and 3600 seconds"),
        (["--env", "AIP_HTTP_PORT=1"], "--env: 'AIP_HTTP_PORT' begins with AIP_, which the platform keeps"),
        (["--env", "A"], "--env: 'A' has no value; write NAME=VALUE"),
        (["--env", "1A=2"], "--env: '1A' is no name of a variable"),
        (["--env", "A=1", "--env", "A=2"], "--env: 'A' is given twice"),
        (["--env", f"A={'x' * (128 << 10)}"], "--env: 'A' has 128 KiB or more"),
        (
            [word for n in range(201) for word in ("--env", f"A{n}=1")],
            "--env: 201 variables are more than the platform's 200",
        ),
        (
            [word for n in range(5) for word in ("--env", f"A{n}={'x' * (120 << 10)}")],
            "--env: the variables have more than 512 KiB",
        ),
        (["--env", "LISTENER_TIMEOUT=never"], "--env LISTENER_TIMEOUT: 'never' is not a number of seconds"),
        (["--env", "LISTENER_TIMEOUTS=1"], "--env: LISTENER_TIMEOUTS is not a setting and has no effect; did you mean"),
    ],
)
def test_each_mistake_is_a_line(words: list[str], beginning: str) -> None:
    (sentence,) = mistakes(*words)
    assert sentence.startswith(beginning)
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "words",
    [
        ["--project", "example.com:my-project"],
        ["--project", "123456789012"],
        ["--region", "europe-west4"],
        ["--image", "gcr.io/my-project/listener"],
        ["--image", f"us-docker.pkg.dev/my-project/serving/a/listener@sha256:{'0' * 64}"],
        ["--artifact-uri", "gs://bucket"],
        ["--accelerator", "nvidia-tesla-t4"],
        ["--accelerator", "none"],
        ["--accelerator", "L4:4"],
        ["--machine-type", "a3-highgpu-8g", "--accelerator", "H100:2"],
        ["--machine-type", "z9-giant-1"],
        ["--machine-type", "n1-highmem-8", "--accelerator", "T4:2"],
        ["--env", "LISTENER_REPOSITORY=$(AIP_STORAGE_URI)"],
        ["--env", "A==,;"],
    ],
)
def test_what_is_right_is_let_through(words: list[str]) -> None:
    assert mistakes(*words) == ()


def test_all_mistakes_are_told_at_once() -> None:
    assert [line.split(":")[0] for line in mistakes("--project", "X", "--min-replicas", "0", "--env", "A")] == [
        "--project",
        "--env",
        "--min-replicas",
    ]


def test_legacy_knows_its_own_accelerators_and_names() -> None:
    (sentence,) = mistakes("--accelerator", "L4", target="legacy")
    assert sentence.startswith("create the version: acceleratorConfig.type: 'NVIDIA_L4' is none of its values")
    assert mistakes("--name", "a-b", target="legacy")[0].startswith("--name: 'a-b' is no name: ")
    assert mistakes("--version", "1", target="legacy")[0].startswith("--version: '1' is no name: ")


@pytest.mark.parametrize(("default", "name"), [("Big Cats", "big-cats"), ("7_cats_", "cats")])
def test_the_default_route_makes_the_name(tmp_path: Path, default: str, name: str) -> None:
    (tmp_path / "listener.yaml").write_text(f"default: {default}\nroutes:\n  {default}: {{}}\n")
    arguments = [word for pair in GOOD.items() for word in pair]
    found = CliRunner().invoke(cli.cli, ["deploy", "vertex", "--service", str(tmp_path), *arguments, "--dry-run"])
    assert f'"modelId": "{name}"' in found.stdout


def test_a_name_that_cannot_be_made_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "listener.yaml").write_text("default: '77'\nroutes:\n  '77': {}\n")
    assert mistakes(service=tmp_path) == ("--name is missing: nothing in listener.yaml makes one",)


def test_a_service_that_is_wrong_is_told_first(tmp_path: Path) -> None:
    (sentence,) = mistakes(service=tmp_path)
    assert sentence.startswith(f"{tmp_path}/listener.yaml: no such file")


def test_legacy_is_for_the_dry_run_alone() -> None:
    found = CliRunner().invoke(cli.cli, ["deploy", "legacy", "--service", str(ROOT)])
    assert isinstance(found.exception, ConfigError)
    assert found.exception.mistakes[0].startswith("AI Platform Prediction was shut down on 2025-01-31, ")


def test_without_the_extra_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['googleapiclient'] = None; from listener import cli; cli.main()"
    command = [sys.executable, "-c", script, "deploy", "vertex", "--service", str(ROOT), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "listener: listener deploy needs google-api-python-client: pip install 'triton-listener[deploy]'\n",
    )
