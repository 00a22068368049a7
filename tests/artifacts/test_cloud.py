"""Google's own client against the emulator: what it lists and reads, and what its errors become."""

from __future__ import annotations

import threading

import google.auth
import pytest
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.oauth2.credentials import Credentials

from listener.artifacts import bucket, cloud
from listener.artifacts.bucket import Item
from listener.artifacts.cloud import Cloud
from listener.artifacts.parts import Span
from listener.artifacts.reading import Replaced
from listener.errors import ConfigError
from tests.artifacts.emulator import Emulator
from tests.artifacts.refusing import refusing
from tests.integration.stack import free_port


def listed(uri: str) -> dict[str, Item]:
    return {item.name: item for item in Cloud().items(bucket.parse(uri))}


def read(uri: str, item: Item, span: Span | None = None) -> bytes:
    client = Cloud()
    try:
        return b"".join(map(bytes, client.read(bucket.parse(uri), item, span or Span(0, item.size), threading.Event())))
    finally:
        client.close()


def sentence(uri: str = "gs://bucket/models") -> str:
    with pytest.raises(ConfigError) as caught:
        listed(uri)
    (told,) = caught.value.mistakes
    return told


@pytest.mark.parametrize("uri", ["gs://cloud-listing/models", "gs://cloud-listing/models/"])
def test_the_objects_below_a_prefix_and_no_others(emulator: Emulator, uri: str) -> None:
    emulator.put(
        "cloud-listing",
        {"models/a/1/model.onnx": b"four", "models/a/": "", "models-old/b": "no", "models": "no", "other": "no"},
    )
    found = listed(uri)
    assert set(found) == {"models/a/1/model.onnx", "models/a/"}
    assert found["models/a/1/model.onnx"].size == 4
    assert found["models/a/1/model.onnx"].generation > 0
    assert not found["models/a/1/model.onnx"].packed


@pytest.mark.parametrize("uri", ["gs://cloud-whole", "gs://cloud-whole/"])
def test_a_whole_bucket(emulator: Emulator, uri: str) -> None:
    emulator.put("cloud-whole", {"a/x": "1", "b": "2"})
    assert set(listed(uri)) == {"a/x", "b"}


def test_nothing_below_a_prefix(emulator: Emulator) -> None:
    emulator.put("cloud-nothing", {"a": "1"})
    assert listed("gs://cloud-nothing/models") == {}


def test_the_bytes_of_an_object(emulator: Emulator) -> None:
    content = bytes(range(256)) * 10_000
    emulator.put("cloud-bytes", {"ä/b c.bin": content})
    assert read("gs://cloud-bytes", listed("gs://cloud-bytes")["ä/b c.bin"]) == content


def test_a_span_of_an_object(emulator: Emulator) -> None:
    emulator.put("cloud-span", {"x": bytes(range(256)) * 4})
    assert read("gs://cloud-span", listed("gs://cloud-span")["x"], Span(250, 260)) == bytes(
        [*range(250, 256), 0, 1, 2, 3]
    )


def test_the_checksum_of_the_listing_is_that_of_the_bytes(emulator: Emulator) -> None:
    emulator.put("cloud-sum", {"x": "123456789"})
    assert listed("gs://cloud-sum")["x"].crc32c == 0xE3069283  # the check value of CRC-32C


def test_no_such_bucket(emulator: Emulator) -> None:
    assert sentence("gs://cloud-nowhere/models") == (
        "gs://cloud-nowhere/models/: there is no bucket 'cloud-nowhere'; check the name"
    )


def test_an_object_that_has_gone(emulator: Emulator) -> None:
    emulator.bucket("cloud-gone")
    with pytest.raises(Replaced):
        read("gs://cloud-gone", Item("models/x", 1, 1))


def test_an_object_that_has_another_size_now(emulator: Emulator) -> None:
    emulator.put("cloud-other", {"x": "12345"})
    with pytest.raises(Replaced):
        read("gs://cloud-other", Item("x", 4, 1))
    with pytest.raises(Replaced):
        read("gs://cloud-other", Item("x", 4, 1), Span(1, 3))


@pytest.mark.parametrize("status", [401, 403])
def test_no_permission_without_credentials(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with refusing(status) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert sentence() == (
            "gs://bucket/models/: may not be read without credentials, and there are none; run with a service account, "
            "or `gcloud auth application-default login`"
        )


@pytest.mark.parametrize(
    ("email", "who"),
    [("robot@p.iam.gserviceaccount.com", "the account robot@p.iam.gserviceaccount.com"), (None, "the account in use")],
)
def test_no_permission_for_an_account(monkeypatch: pytest.MonkeyPatch, email: str | None, who: str) -> None:
    account = Credentials("token")  # type: ignore[no-untyped-call]
    monkeypatch.setattr(Credentials, "service_account_email", email, raising=False)
    with refusing(403) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        monkeypatch.setattr(cloud, "_credentials", lambda: account)
        assert sentence() == (
            f"gs://bucket/models/: {who} may not read it; grant it roles/storage.objectViewer on the bucket"
        )


def test_credentials_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing(401) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        monkeypatch.setattr(cloud, "_credentials", lambda: Credentials("expired"))  # type: ignore[no-untyped-call]
        assert sentence().startswith("gs://bucket/models/: the credentials cannot be used: The credentials do not ")


def test_what_stays_unavailable_is_told_after_some_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "_PATIENCE", 0.2)
    with refusing(503) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert sentence().startswith("gs://bucket/models/: cannot be fetched: 503 GET http://127.0.0.1:")


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "_PATIENCE", 0.2)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url := f"http://127.0.0.1:{free_port()}")
    assert sentence() == (
        f"gs://bucket/models/: cannot be fetched: nobody answers at {url}, which STORAGE_EMULATOR_HOST names"
    )


def test_a_status_that_nobody_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing(418) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        assert "cannot be fetched: 418 GET" in sentence()


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (403, "gs://b/: may not be read without credentials, and there are none; "),
        (418, "gs://b/: 'x' cannot be fetched: 418 I'm a Teapot: told to refuse"),
        (503, "gs://b/: cannot be fetched: 503 Service Unavailable, and nothing came for 0.3 s"),
        (429, "gs://b/: cannot be fetched: 429 Too Many Requests, and nothing came for 0.3 s"),
    ],
)
def test_what_becomes_of_a_status_for_bytes(monkeypatch: pytest.MonkeyPatch, status: int, told: str) -> None:
    monkeypatch.setattr(cloud, "_PATIENCE", 0.3)
    with refusing(status) as url, pytest.raises(ConfigError) as caught:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        read("gs://b", Item("x", 1, 1))
    assert caught.value.mistakes[0].startswith(told)


def test_nobody_answers_for_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "_PATIENCE", 0.3)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(
        ConfigError, match=r"the connection was lost: .*Connection refused, and nothing came for 0\.3 s"
    ):
        read("gs://b", Item("x", 1, 1))


# Credentials


def test_an_emulator_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setattr(google.auth, "default", None)
    assert isinstance(cloud._credentials(), AnonymousCredentials)


def test_where_there_are_none_public_buckets_can_still_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(scopes: list[str]) -> None:
        raise auth.DefaultCredentialsError("none")  # type: ignore[no-untyped-call]

    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", none)
    assert isinstance(cloud._credentials(), AnonymousCredentials)


def test_application_default_credentials_are_asked_for_reading_only(monkeypatch: pytest.MonkeyPatch) -> None:
    given = object()
    asked = list[list[str]]()

    def default(scopes: list[str]) -> tuple[object, str]:
        asked.append(scopes)
        return given, "project"

    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", default)
    assert cloud._credentials() is given
    assert asked == [["https://www.googleapis.com/auth/devstorage.read_only"]]
