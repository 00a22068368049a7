"""Who asks: a token that is given, and Application Default Credentials from a token endpoint on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import tokens
from loadtest.asking import Mistake
from loadtest.tokens import Tokens
from tests.artifacts.secure import Tokens as Giver
from tests.artifacts.secure import token_endpoint


@pytest.mark.parametrize(
    ("url", "google"),
    [
        ("https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/1:predict", True),
        ("https://1.us-central1-2.prediction.vertexai.goog/v1/projects/p:predict", True),
        ("http://us-central1-aiplatform.googleapis.com/v1", False),
        ("https://notgoogleapis.com/v1", False),
        ("https://googleapis.com.example/v1", False),
        ("https://example/aiplatform.googleapis.com", False),
        ("http://listener:8080/predict", False),
    ],
)
def test_credentials_go_to_google_alone(url: str, google: bool) -> None:
    assert tokens.is_google(url) is google


def test_a_token_that_is_given_goes_with_each_request() -> None:
    assert Tokens("", default=False).headers() == {}
    for default in (False, True):
        assert Tokens("abc", default).headers() == {"Authorization": "Bearer abc"}


@pytest.fixture
def giver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Giver]:
    """Gives tokens to the service account of this process."""
    with token_endpoint() as giver:
        giver.scope = "https://www.googleapis.com/auth/cloud-platform"
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(giver.service_account(tmp_path / "key.json")))
        yield giver


def test_a_token_is_asked_for_once_and_anew_when_it_ends(giver: Giver) -> None:
    shared = Tokens("", default=True)
    first = shared.headers()
    assert giver.holds(first["Authorization"])
    assert (shared.headers(), giver.asked) == (first, 1)
    giver.seconds = 1  # of the next one, which is past its end at once
    assert Tokens("", default=True).headers() != first
    short = Tokens("", default=True)
    assert short.headers() != short.headers()


def test_a_new_token_that_is_refused_is_left_out_and_told(giver: Giver, caplog: pytest.LogCaptureFixture) -> None:
    shared = Tokens("", default=True)
    giver.status = 400
    assert shared.headers() == {}
    said = [record.getMessage() for record in caplog.records if record.name == "root"]
    assert said == ["no token: told to refuse: as the test wants it"]


def test_credentials_that_are_not_there_are_told_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(Mistake, match=r"^no token: File .*absent\.json was not found\.; set TOKEN, or gcloud auth"):
        Tokens("", default=True)


def test_without_google_auth_a_token_has_to_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(Mistake, match=r"^no token: set TOKEN=.*, or pip install google-auth$"):
        Tokens("", default=True)
