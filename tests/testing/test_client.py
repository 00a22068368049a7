"""The synchronous client: what it sends, what it gives back, and what it says of a service that does not start."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from listener.errors import ConfigError
from listener.testing import Client, FakeTriton, Refused, serving
from tests.testing.conftest import MakeService, doubling


def test_predictions_come_in_order(make_service: MakeService) -> None:
    with Client(make_service("a", plus=1), doubling()) as client:
        assert client.predict([1, 2, 3]) == [4, 6, 8]
        assert client.predict(np.arange(2)) == [2, 4]


def test_a_refusal_has_its_status_and_its_sentence(make_service: MakeService) -> None:
    with Client(make_service("a"), doubling()) as client:
        with pytest.raises(Refused, match=r"^400: instances\[1\]: no number$") as caught:
            client.predict([1, "x"])
        assert (caught.value.status, caught.value.error) == (400, "instances[1]: no number")
        assert client.predict([1]) == [2]


def test_parameters_headers_and_bytes_reach_the_handler(make_service: MakeService) -> None:
    source = """
from listener import Handler, Reply

class H(Handler):
    model = "m"

    async def predict(self, call):
        context = call.context
        return Reply([[x.decode(), context.parameters["p"], context.headers["x-h"]] for x in call.instances])
"""
    with Client(make_service("a", source=source), doubling()) as client:
        assert client.predict([b"picture"], {"p": 7}, {"X-H": "h"}) == [["picture", 7, "h"]]


def test_post_gives_status_and_document(make_service: MakeService) -> None:
    with Client(make_service("a"), doubling(), max_body=1024) as client:
        assert client.post({"instances": [1]}) == (200, {"predictions": [2]})
        assert client.post(b'{"instances": [1]}') == (200, {"predictions": [2]})
        assert client.post("{") == (400, {"error": client.post("{")[1]["error"]})
        assert client.post(b" " * 1025)[0] == 413  # a setting that was given
        status, events = client.post({"instances": [1]}, {"Accept": "text/event-stream"})
        assert (status, events) == (200, b'data: {"predictions":[2.0]}\n\n')


def test_models_may_be_added_until_the_first_request(make_service: MakeService) -> None:
    triton = FakeTriton()
    with Client(make_service("a"), triton) as client:
        triton.models.update(doubling().models)
        assert client.predict([1]) == [2]


def test_nothing_starts_without_a_request(make_service: MakeService) -> None:
    with Client(make_service("a", source="raise RuntimeError"), FakeTriton()):
        assert not running()


def test_nothing_is_left_after_close(make_service: MakeService) -> None:
    folder = make_service("a")
    paths = list(sys.path)
    with Client(folder, doubling()) as client:
        client.predict([1])
        assert running()
        assert str(folder) in sys.path
    assert not running()
    assert sys.path == paths
    assert not {name for name in sys.modules if name.partition(".")[0] == "handlers" and "h" in name.split(".")}


def test_a_handler_is_closed(make_service: MakeService, tmp_path: Path) -> None:
    closing = f"\n    def close(self):\n        open({str(tmp_path / 'closed')!r}, 'w').close()\n"
    folder = make_service("a")
    (folder / "handlers/h.py").write_text((folder / "handlers/h.py").read_text() + closing)
    with Client(folder, doubling()) as client:
        client.predict([1])
        assert not (tmp_path / "closed").exists()
    assert (tmp_path / "closed").exists()


# A service that does not start


def test_every_mistake_of_listener_yaml_is_said(make_service: MakeService) -> None:
    folder = make_service("a")
    (folder / "listener.yaml").write_text("qqq: 1\nroutes:\n  m:\n    modell: x\n")
    with Client(folder, doubling()) as client, pytest.raises(ConfigError) as caught:
        client.predict([1])
    assert "listener.yaml:1: unknown key 'qqq'" in str(caught.value)
    assert "listener.yaml:4: unknown key 'modell'" in str(caught.value)
    assert not running()


def test_an_error_in_the_module_is_said_and_mending_it_helps(make_service: MakeService) -> None:
    folder = make_service("a", source="import numpy\nnumpy.nothing\n")
    with Client(folder, doubling()) as client:
        with pytest.raises(ConfigError, match=r"AttributeError: .*'nothing'.*h\.py:2\)"):
            client.predict([1])
        (folder / "handlers/h.py").write_text("from listener import Handler\n\n\nclass H(Handler):\n    model = 'm'\n")
        assert client.predict([1]) == [[2]]


def test_a_setting_that_is_wrong_is_said(make_service: MakeService) -> None:
    with Client(make_service("a"), doubling(), workers="many") as client, pytest.raises(ConfigError, match="workers"):
        client.predict([1])
    assert not running()


@pytest.fixture
def for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for its time to be up runs into pytest's limit."""
    monkeypatch.setattr(serving, "READY_WITHIN", 1e6)


def test_a_model_that_is_not_ready_is_waited_for(make_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "READY_WITHIN", 0.5)
    triton = doubling()
    triton.models["m"].ready = False
    with Client(make_service("a"), triton) as client, pytest.raises(TimeoutError, match=r"model 'm' is not ready$"):
        client.predict([1])
    assert not running()


@pytest.mark.usefixtures("for_ever")
def test_a_model_that_is_missing_is_said_at_once(make_service: MakeService) -> None:
    with (
        Client(make_service("a"), FakeTriton()) as client,
        pytest.raises(TimeoutError, match=r"'m' is not in the repository; a test adds it with triton\.models\['m'\] ="),
    ):
        client.predict([1])
    assert not running()


@pytest.mark.usefixtures("for_ever")
def test_a_version_that_is_missing_is_said_at_once(make_service: MakeService) -> None:
    folder = make_service("a")
    (folder / "listener.yaml").write_text("routes:\n  m:\n    handler: handlers.h:H\n    version: 3\n")
    with (
        Client(folder, doubling()) as client,
        pytest.raises(TimeoutError, match=r'no version 3 that is ready; a test adds it with .*versions=\(..., "3"\)'),
    ):
        client.predict([1])


@pytest.mark.usefixtures("for_ever")
def test_a_handler_that_fails_in_its_warm_up_is_said_with_its_own_error(make_service: MakeService) -> None:
    folder = make_service("a")
    module = folder / "handlers/h.py"
    module.write_text(
        module.read_text()
        .replace('model = "m"', 'model = "m"\n    example = 1')
        .replace('float(outputs["y"][0])', 'outputs["z"]')
    )
    with Client(folder, doubling()) as client, pytest.raises(TimeoutError) as caught:
        client.predict([1])
    assert str(caught.value) == (
        "the service does not become ready: the warm-up of route 'm' failed: the handler of 'm' failed in postprocess: "
        "KeyError: 'z'"
    )
    assert isinstance(caught.value.__cause__, KeyError)  # whose trace pytest shows


def test_a_fake_triton_is_no_reason_for_a_warning(make_service: MakeService, caplog: pytest.LogCaptureFixture) -> None:
    with Client(make_service("a"), doubling()) as client:
        client.predict([1])
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


@pytest.mark.usefixtures("for_ever")
def test_a_warm_up_that_fails_is_said(make_service: MakeService) -> None:
    folder = make_service("a")
    module = folder / "handlers/h.py"
    module.write_text(module.read_text().replace('model = "m"', 'model = "m"\n    example = "x"'))
    with (
        Client(folder, doubling()) as client,
        pytest.raises(TimeoutError, match=r"the warm-up of route 'm' failed: instances\[0\]: no number"),
    ):
        client.predict([1])


def running() -> bool:
    return any(thread.name == "listener.testing" for thread in threading.enumerate())


# Several services in one process


def test_two_services_are_not_mixed_up(make_service: MakeService) -> None:
    for name, plus in (("a", 0), ("b", 10), ("a2", 20)):
        with Client(make_service(name, plus), doubling()) as client:
            assert client.predict([1]) == [2 * (1 + plus)]


def test_handlers_that_were_there_before_are_there_again(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of another service, which a test imported by itself."""
    other = make_service("other", 5)
    monkeypatch.syspath_prepend(str(other))
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "handlers"}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    theirs = importlib.import_module("handlers.h")
    try:
        with Client(make_service("a", 1), doubling()) as client:
            assert client.predict([1]) == [4]
        assert sys.modules["handlers.h"] is theirs
    finally:
        for name in ("handlers.h", "handlers"):
            sys.modules.pop(name, None)


def test_a_module_that_the_test_imported_is_the_one_that_serves(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a test may change what is in it."""
    folder = make_service("mine")
    (folder / "handlers").rename(folder / "mine_handlers")
    (folder / "listener.yaml").write_text("routes:\n  m:\n    handler: mine_handlers.h:H\n")
    monkeypatch.syspath_prepend(str(folder))
    ours = importlib.import_module("mine_handlers.h")

    monkeypatch.setattr(ours.H, "postprocess", lambda self, outputs: "changed")
    with Client(folder, doubling()) as client:
        assert client.predict([1]) == ["changed"]
    assert sys.modules["mine_handlers.h"] is ours
