"""The conformance suite against the images as Vertex starts them, and a stop while they work."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.artifacts import emulator as emulators
from tests.contract import models
from tests.contract.target import Target
from tests.image.runtime import STOP_PATIENCE, VERTEX, Container, Image, running
from tests.integration.stack import ROOT

#: Seconds that a slow request takes, and how many are under way; the model answers one after the other. So many that
#: some would fail without a drain.
_SLOW, _AT_ONCE = 1.0, 9
#: For so many Python models; with the usual 64 MiB, one that is given 10 MB at once runs out of it.
_SHM = 256 << 20
#: What lies in Cloud Storage beside the suite's models: a service without code. Nothing but AIP_* has to be set then.
_SERVICE = f"repository: models\ndefault: {models.DEFAULT}\n"
#: Of the suite, what does not ask the container: tests of its modules, and those of item 3, each of which starts a
#: listener in another place; test_served.py has such starts in the image.
_OUTSIDE = ("modules", "test_03_storage_uri.py", "test_03_storage_uri_gs.py")
#: And schemathesis, which for minutes makes requests of a document that is the same outside.
_MADE = (
    "test_whatever_satisfies_the_schemas_is_accepted",
    "test_whatever_violates_the_schemas_is_refused",
    "test_every_answer_is_one_of_those_that_are_told",
)
#: Malformed requests of item 15.
_FUZZED = 1000
#: What takes longest and is the same in both images, which have one listener: in the first one alone.
_LONG = ("test_12_sizes.py", "test_15_fuzz.py")


@pytest.fixture(scope="module")
def container(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """With the suite's models. Shared by the tests of this file, of which the last one stops it."""
    service = tmp_path_factory.mktemp("service")
    (service / "listener.yaml").write_text(_SERVICE)
    models.write(service / "models")
    with emulators.running() as storage:
        storage.upload("artefacts", service, "models/")
        environ = {**VERTEX, "STORAGE_EMULATOR_HOST": storage.url}
        with running(image, tmp_path_factory.mktemp("contract"), environ, shm=_SHM) as container:
            container.until(200, 120)
            yield container


def test_the_conformance_suite(container: Container, image: Image) -> None:
    suite = [sys.executable, "-m", "pytest", "tests/contract", "-q", "-m", "not long", "-p", "no:cacheprovider"]
    suite += [f"--ignore=tests/contract/{name}" for name in (*_OUTSIDE, *(_LONG if image.name == "cpu" else ()))]
    suite += [f"--deselect=tests/contract/test_13_openapi.py::{name}" for name in _MADE]
    target = container.target
    suite += ["--base-url", f"http://{target.host}:{target.port}", "--pid", str(container.inside.pid)]
    suite += ["--predict-route", target.predict_route, "--health-route", target.health_route]
    suite += ["--fuzzed", str(_FUZZED)]
    done = subprocess.run(suite, cwd=ROOT, capture_output=True, text=True, timeout=600)
    print(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-8000:] + container.output()[-4000:]
    passed = int(done.stdout.splitlines()[-1].split(" passed")[0].split()[-1])
    assert passed > 1000, done.stdout[-500:]


@dataclass
class Load:
    """Callers that go on until nobody answers.

    Attributes:
        answers: when each request had been sent, and its status; 0 = nobody took the connection, -1 = it broke.
    """

    target: Target
    answers: list[tuple[float, int]] = field(default_factory=list)

    def ask(self, model: str, value: float) -> int:
        begin = time.monotonic()
        try:
            body = {"instances": [value], "parameters": {"model": model}}
            status = self.target.post(self.target.predict_route, body).status
        except ConnectionRefusedError:
            status = 0
        except (OSError, http.client.HTTPException):
            status = -1
        self.answers.append((begin, status))
        return status

    def go_on(self) -> None:
        """Also while it is told to come later, with 503."""
        while self.ask("identity_fp32", 1.0) > 0:
            pass


def test_sigterm_under_load_fails_no_request(container: Container) -> None:
    """Whatever was sent before the signal is answered, long requests with it."""
    slow, quick = Load(container.target), Load(container.target)
    threads = [threading.Thread(target=slow.ask, args=("slow", _SLOW)) for _ in range(_AT_ONCE)]
    threads += [threading.Thread(target=quick.go_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    signalled = time.monotonic()
    status, took = container.stop(signal.SIGTERM)
    for thread in threads:
        thread.join()
    before = [answer for sent, answer in quick.answers if sent < signalled - 0.05]
    after = Counter(answer for sent, answer in quick.answers if sent > signalled)
    print(f"quick requests: {len(before)} before the signal, {dict(after)} after; {took:.1f} s")
    assert [answer for _, answer in slow.answers] == [200] * _AT_ONCE
    assert len(before) > 20
    assert set(before) == {200}
    # answered, told to go elsewhere, or not taken; what the kernel had taken for us as the port was closed may break
    assert set(after) <= {200, 503, 0, -1}
    last = max(sent for sent, answer in quick.answers if answer > 0)
    assert all(sent > last - 0.1 for sent, answer in quick.answers if answer == -1)
    assert status == 0, container.output()[-4000:]
    assert took < STOP_PATIENCE
