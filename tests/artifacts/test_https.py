"""Cloud Storage over TLS that wants a token: certificates, tokens and proxies as Google's client would have them."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.artifacts import bucket, cloud, fetch, parts, reading
from listener.artifacts.cloud import Cloud
from listener.artifacts.parts import Span
from listener.artifacts.store import Store
from listener.errors import ConfigError
from tests.artifacts import faults
from tests.artifacts.emulator import Emulator
from tests.artifacts.faults import Proxy
from tests.artifacts.secure import EARLY, EMAIL, Authority, Tokens, token_endpoint, tunnelling
from tests.integration.stack import free_port

NAME = "https"
MODELS: dict[str, bytes | str] = {f"models/m/{n}/model.onnx": f"{n}" * 1000 for n in range(1, 101)}
LARGE: dict[str, bytes | str] = {"models/m/1/model.onnx": bytes(range(256)) * 65_536}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def filled(one_emulator: Emulator) -> Emulator:
    one_emulator.put(NAME, MODELS)
    one_emulator.put(f"{NAME}-large", LARGE)
    return one_emulator


@pytest.fixture
def tokens(authority: Authority) -> Iterator[Tokens]:
    with token_endpoint(authority.context("localhost")) as running:
        yield running


@pytest.fixture
def storage(
    filled: Emulator, authority: Authority, tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proxy]:
    """Cloud Storage over HTTPS, for those who have a token; a client that has a key, and trusts the authority."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tokens.service_account(tmp_path / "key.json")))
    with faults.proxy(filled.url, authority.context("localhost")) as running:
        running.admits = tokens.holds
        monkeypatch.setenv("API_ENDPOINT_OVERRIDE", running.url)
        yield running


def fetched(folder: Path, name: str = NAME) -> dict[str, bytes]:
    place = bucket.parse(f"gs://{name}/models")
    published = fetch.fetch(place, Store(str(folder), place.key), Cloud())
    files = [file for file in published.rglob("*") if file.is_file()]
    return {f"models/{file.relative_to(published).as_posix()}": file.read_bytes() for file in files}


def wanted(objects: dict[str, bytes | str]) -> dict[str, bytes]:
    return {name: text.encode() if isinstance(text, str) else text for name, text in objects.items()}


def refusal(folder: Path, name: str = NAME) -> str:
    with pytest.raises(ConfigError) as caught:
        fetched(folder, name)
    (sentence,) = caught.value.mistakes
    return sentence


def test_one_token_for_all_and_a_handshake_for_each_connection(storage: Proxy, tokens: Tokens, tmp_path: Path) -> None:
    assert fetched(tmp_path / "a") == wanted(MODELS)
    assert tokens.asked == 1
    assert storage.turned_away == 0
    assert len(storage.reads()) == 100
    assert storage.handshakes <= parts.connections([1] * 100) + 1  # one is the listing's


def test_a_token_that_ends_on_the_way_is_renewed_once_by_all(storage: Proxy, tokens: Tokens, tmp_path: Path) -> None:
    tokens.seconds, tokens.wait = EARLY + 1, 0.1
    storage.inject(faults.Wait(0.3))  # 100 objects by 16 threads: 2 s
    assert fetched(tmp_path / "a") == wanted(MODELS)
    assert 2 <= tokens.asked <= 5


def test_tokens_that_hold_for_moments(storage: Proxy, tokens: Tokens, tmp_path: Path) -> None:
    tokens.seconds = 3  # google-auth takes each of them for expired
    assert fetched(tmp_path / "a") == wanted(MODELS)


def test_revoked_tokens_are_renewed_once_by_all(storage: Proxy, tokens: Tokens, tmp_path: Path) -> None:
    several = threading.Barrier(4)

    def admits(authorization: str) -> bool:
        if tokens.holds(authorization):
            return True
        with contextlib.suppress(threading.BrokenBarrierError):
            several.wait(2)  # so that several threads are turned away at once
        return False

    storage.admits = admits
    storage.inject(faults.Wait(0.2))
    revoked = threading.Timer(1.0, tokens.revoke)
    revoked.start()
    assert fetched(tmp_path / "a") == wanted(MODELS)
    revoked.join()
    assert storage.turned_away >= 4
    assert tokens.asked == 2


def test_whoever_is_never_admitted_is_told(storage: Proxy, tokens: Tokens, tmp_path: Path) -> None:
    storage.admits = lambda authorization: tokens.holds(authorization) and not storage.listings()
    begin = time.monotonic()
    assert refusal(tmp_path / "a") == (
        f"gs://{NAME}/models/: the account {EMAIL} may not read it; grant it roles/storage.objectViewer on the bucket"
    )
    assert time.monotonic() - begin < 10
    assert tokens.asked <= 2
    assert storage.turned_away < 100


# Who gives tokens is away


def test_a_token_endpoint_that_comes_back(storage: Proxy, tokens: Tokens, tmp_path: Path) -> None:
    tokens.status = 503
    back = threading.Timer(5.0, setattr, [tokens, "status", 200])  # google-auth tries for 3 s itself
    back.start()
    assert fetched(tmp_path / "a") == wanted(MODELS)
    back.join()


def test_a_token_endpoint_that_comes_back_on_the_way(storage: Proxy, tokens: Tokens, tmp_path: Path) -> None:
    tokens.seconds = EARLY + 1
    storage.inject(faults.Wait(0.3))
    for seconds, status in ((0.7, 503), (6.0, 200)):
        threading.Timer(seconds, setattr, [tokens, "status", status]).start()
    assert fetched(tmp_path / "a") == wanted(MODELS)
    assert tokens.asked < 16  # not each thread for itself


def test_a_token_endpoint_that_stays_away(
    storage: Proxy, tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "_PATIENCE", 1.0)
    tokens.status = 503
    assert refusal(tmp_path / "a") == (
        f"gs://{NAME}/models/: cannot be fetched: no token can be had from {tokens.url}: told to refuse: as the test "
        "wants it, and nothing came for 1 s"
    )


def test_a_token_endpoint_that_nobody_serves(
    storage: Proxy, tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "_PATIENCE", 1.0)
    tokens.url = f"https://localhost:{free_port()}/token"
    tokens.service_account(tmp_path / "key.json")
    sentence = refusal(tmp_path / "a")
    assert sentence.startswith(f"gs://{NAME}/models/: cannot be fetched: no token can be had from {tokens.url}: ")
    assert sentence.endswith("Connection refused, and nothing came for 1 s")


def test_a_token_endpoint_that_stays_away_on_the_way(
    storage: Proxy, tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "_PATIENCE", 1.0)
    tokens.seconds = EARLY + 1
    storage.inject(faults.Wait(0.3))
    threading.Timer(0.7, setattr, [tokens, "status", 503]).start()
    begin = time.monotonic()
    assert refusal(tmp_path / "a").startswith(
        f"gs://{NAME}/models/: cannot be fetched: no token can be had from {tokens.url}: told to refuse"
    )
    assert time.monotonic() - begin < 20
    assert tokens.asked < 16


def test_a_key_that_is_not_taken(storage: Proxy, tokens: Tokens, tmp_path: Path) -> None:
    tokens.status = 400
    assert refusal(tmp_path / "a") == (
        f"gs://{NAME}/models/: the credentials cannot be used: told to refuse: as the test wants it"
    )
    assert tokens.asked == 1


# Certificates

UNTRUSTED = (
    "the certificate of localhost is not trusted: unable to get local issuer certificate; name a file with that of its "
    "authority in REQUESTS_CA_BUNDLE"
)


def test_a_certificate_that_nobody_vouches_for(
    storage: Proxy, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Authority(tmp_path_factory.mktemp("other")).bundle))
    begin = time.monotonic()
    assert refusal(tmp_path / "a") == f"gs://{NAME}/models/: cannot be fetched: {UNTRUSTED}"
    assert time.monotonic() - begin < 5


def test_storage_alone_is_not_trusted(
    filled: Emulator,
    storage: Proxy,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    begin = time.monotonic()
    with faults.proxy(filled.url, other.context("localhost")) as running:
        monkeypatch.setenv("API_ENDPOINT_OVERRIDE", running.url)
        assert refusal(tmp_path / "a") == f"gs://{NAME}/models/: cannot be fetched: {UNTRUSTED}"
    assert time.monotonic() - begin < 5


def test_bytes_alone_come_from_somebody_who_is_not_trusted(
    storage: Proxy, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, client = bucket.parse(f"gs://{NAME}/models"), Cloud()
    item = client.items(place)[0]
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Authority(tmp_path_factory.mktemp("other")).bundle))
    client._media = reading.Media(client._client.api_endpoint, client._credentials)
    begin = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        list(client.read(place, item, Span(0, item.size), threading.Event()))
    assert str(caught.value) == f"gs://{NAME}/models/: cannot be fetched: {UNTRUSTED}"
    assert time.monotonic() - begin < 5


def test_a_certificate_of_another_host(
    filled: Emulator, authority: Authority, storage: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = time.monotonic()
    with faults.proxy(filled.url, authority.context("elsewhere.example")) as running:
        monkeypatch.setenv("API_ENDPOINT_OVERRIDE", running.url)
        assert refusal(tmp_path / "a") == (
            f"gs://{NAME}/models/: cannot be fetched: the certificate is that of another host: Hostname mismatch, "
            "certificate is not valid for 'localhost'."
        )
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_bundle_that_is_none(
    storage: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    if content:
        (tmp_path / "bundle").write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "bundle"))
    begin = time.monotonic()
    assert refusal(tmp_path / "a").startswith(
        f"certificates cannot be read from {tmp_path}/bundle, which REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names: "
    )
    assert time.monotonic() - begin < 5


def test_a_folder_of_certificates(
    storage: Proxy, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "a.pem").write_bytes(authority.bundle.read_bytes())
    subprocess.run(["openssl", "rehash", str(folder)], check=True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder))
    assert fetched(tmp_path / "a") == wanted(MODELS)


# Proxies


def test_a_proxy_with_a_password(
    storage: Proxy, tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tunnelling() as tunnels:
        monkeypatch.setenv("HTTPS_PROXY", tunnels.url)
        assert fetched(tmp_path / "a") == wanted(MODELS)
    to_storage = storage.url.removeprefix("https://")
    assert set(tunnels.made) == {to_storage, tokens.url.removeprefix("https://").removesuffix("/token")}
    assert tunnels.made.count(to_storage) == storage.handshakes


@pytest.mark.parametrize("exempt", ["localhost", "*", ".example,LOCALHOST"])
def test_no_proxy(storage: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exempt: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert fetched(tmp_path / "a") == wanted(MODELS)


def test_a_proxy_that_wants_another_password(storage: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tunnelling() as tunnels:
        monkeypatch.setenv("HTTPS_PROXY", tunnels.url.replace("word", "wort"))
        begin = time.monotonic()
        assert refusal(tmp_path / "a") == (
            f"gs://{NAME}/models/: cannot be fetched: the proxy does not let us through: 407 Proxy Authentication "
            "Required; check HTTPS_PROXY and its password"
        )
    assert time.monotonic() - begin < 5
