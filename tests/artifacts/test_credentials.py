"""`listener fetch` with each kind of Application Default Credentials, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from google.auth._cloud_sdk import CLOUD_SDK_CLIENT_ID

from tests.artifacts import faults
from tests.artifacts.emulator import Emulator
from tests.artifacts.faults import Proxy
from tests.artifacts.secure import EMAIL, REFRESH, Authority, metadata_server, token_endpoint, tunnelling
from tests.integration.stack import ROOT

NAME = "credentials"
MODELS: dict[str, bytes | str] = {"models/m/1/model.onnx": "one", "models/m/config.pbtxt": "name: 'm'"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def storage(one_emulator: Emulator, authority: Authority) -> Iterator[Proxy]:
    one_emulator.put(NAME, MODELS)
    with faults.proxy(one_emulator.url, authority.context("localhost")) as running:
        yield running


@pytest.fixture
def environment(storage: Proxy, authority: Authority, tmp_path: Path) -> dict[str, str]:
    """Of a machine without any credentials, which is not at Google's."""
    unset = ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT")
    return {name: value for name, value in os.environ.items() if name not in unset} | {
        "PYTHONPATH": str(ROOT),
        "API_ENDPOINT_OVERRIDE": storage.url,
        "REQUESTS_CA_BUNDLE": str(authority.bundle),
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "NO_GCE_CHECK": "true",
    }


def run(folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "listener", "fetch", f"gs://{NAME}/models", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(environment),
    )


def require(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert (done.returncode, done.stdout[:9]) == (0, f"{folder}: f"[:9]), done.stderr
    assert (folder / "m/1/model.onnx").read_text() == "one"
    assert {line for line in done.stderr.splitlines() if "listener.artifacts" not in line} == set(), done.stderr


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, "")
    (said,) = done.stderr.splitlines()
    return said.removeprefix("listener: ")


def test_a_service_account(storage: Proxy, environment: dict[str, str], authority: Authority, tmp_path: Path) -> None:
    with token_endpoint(authority.context("localhost")) as tokens:
        storage.admits = tokens.holds
        key = tokens.service_account(tmp_path / "key.json")
        require(run(tmp_path / "a", {**environment, "GOOGLE_APPLICATION_CREDENTIALS": str(key)}), tmp_path / "a")
        assert tokens.asked == 1


@pytest.mark.parametrize("named", [True, False])
def test_a_user(storage: Proxy, environment: dict[str, str], authority: Authority, tmp_path: Path, named: bool) -> None:
    """What `gcloud auth application-default login` leaves; their tokens come from one place, which a proxy fakes."""
    info = {"type": "authorized_user", "client_id": CLOUD_SDK_CLIENT_ID, "client_secret": "s", "refresh_token": REFRESH}
    file = tmp_path / "gcloud/application_default_credentials.json"
    file.parent.mkdir()
    file.write_text(json.dumps(info))
    if named:
        environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(file.rename(tmp_path / "user.json"))
    with token_endpoint(authority.context("oauth2.googleapis.com")) as tokens:
        storage.admits = tokens.holds
        here = tokens.url.removeprefix("https://").removesuffix("/token")
        with tunnelling({"oauth2.googleapis.com:443": here}) as tunnels:
            environment |= {"HTTPS_PROXY": tunnels.url, "NO_PROXY": "localhost"}
            require(run(tmp_path / "a", environment), tmp_path / "a")
        assert tunnels.made == ["oauth2.googleapis.com:443"]
        assert tokens.asked == 1


def at_google(environment: dict[str, str], url: str) -> None:
    address = url.removeprefix("http://")
    del environment["NO_GCE_CHECK"]
    environment |= {"GCE_METADATA_HOST": address, "GCE_METADATA_IP": address}


def test_a_machine_at_google(storage: Proxy, environment: dict[str, str], tmp_path: Path) -> None:
    with metadata_server() as tokens:
        storage.admits = tokens.holds
        at_google(environment, tokens.url)
        require(run(tmp_path / "a", environment), tmp_path / "a")
        assert tokens.asked == 1


def test_a_machine_at_google_whose_account_may_not(storage: Proxy, environment: dict[str, str], tmp_path: Path) -> None:
    with metadata_server() as tokens:
        storage.inject(faults.Status(403), listing=True)
        at_google(environment, tokens.url)
        assert sentence(run(tmp_path / "a", environment)) == (
            f"gs://{NAME}/models/: the account {EMAIL} may not read it; grant it roles/storage.objectViewer on the "
            "bucket"
        )


def test_a_machine_at_google_without_an_account(storage: Proxy, environment: dict[str, str], tmp_path: Path) -> None:
    with metadata_server() as tokens:
        tokens.status = 404
        at_google(environment, tokens.url)
        said = sentence(run(tmp_path / "a", environment))
    assert said.startswith(f"gs://{NAME}/models/: the credentials cannot be used: Failed to retrieve http://")


def test_a_machine_in_another_cloud(storage: Proxy, environment: dict[str, str], tmp_path: Path) -> None:
    with metadata_server() as tokens:
        tokens.universe, storage.admits = 200, tokens.holds
        at_google(environment, tokens.url)
        require(run(tmp_path / "a", environment), tmp_path / "a")
        tokens.universe = 403
        said = sentence(run(tmp_path / "b", environment))
    assert said.startswith("no token can be had from the metadata server: Failed to retrieve http://")


def test_a_metadata_server_that_comes_back(storage: Proxy, environment: dict[str, str], tmp_path: Path) -> None:
    with metadata_server() as tokens:
        tokens.status, storage.admits = 503, tokens.holds
        at_google(environment, tokens.url)
        back = threading.Timer(2.5, setattr, [tokens, "status", 200])
        back.start()
        require(run(tmp_path / "a", environment), tmp_path / "a")
        back.join()
        assert tokens.asked > 1


def test_a_public_bucket_without_any(storage: Proxy, environment: dict[str, str], tmp_path: Path) -> None:
    require(run(tmp_path / "a", environment), tmp_path / "a")


def test_another_universe(storage: Proxy, environment: dict[str, str], authority: Authority, tmp_path: Path) -> None:
    with token_endpoint(authority.context("localhost")) as tokens:
        key = tokens.service_account(tmp_path / "key.json", universe_domain="elsewhere.example")
        require(run(tmp_path / "a", {**environment, "GOOGLE_APPLICATION_CREDENTIALS": str(key)}), tmp_path / "a")


BROKEN = {
    "missing": None,
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "no type": "{}",
    "no key": '{"type": "service_account"}',
    "wrong key": json.dumps(
        {"type": "service_account", "client_email": EMAIL, "private_key": "x", "token_uri": "http://127.0.0.1:1"}
    ),
    "no secret": '{"type": "authorized_user"}',
    "no text": "\udcff",
    "a folder": "FOLDER",
}


#: Kinds that do not count where no file is named.
NOTHING = ("missing", "a folder")


@pytest.mark.parametrize(
    ("kind", "named"), [(kind, named) for kind in BROKEN for named in (True, False) if named or kind not in NOTHING]
)
def test_a_broken_file(environment: dict[str, str], tmp_path: Path, kind: str, named: bool) -> None:
    file, content = tmp_path / "gcloud/application_default_credentials.json", BROKEN[kind]
    file.parent.mkdir()
    if kind == "a folder":
        file.mkdir()
    elif content is not None:
        file.write_text(content, errors="surrogateescape")
    if named:
        file = file.parent.rename(tmp_path / "named") / file.name
        environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(file)
    said = sentence(run(tmp_path / "a", environment))
    print(said)
    assert said.startswith(f"{file}: the credentials cannot be used: ")
