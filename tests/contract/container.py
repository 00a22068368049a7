"""The listener as the platform starts it: in a process of its own, told by AIP_* variables alone."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.contract.target import Target
from tests.integration.stack import ROOT, command_line, end, free_port, topmost, wait_for

#: What Vertex sets for a container without artefacts (contract: "Environment"). Routes with a colon, as its own are.
VERTEX = {
    "AIP_MODE": "PREDICTION",
    "AIP_MODE_VERSION": "1.0.0",
    "AIP_FRAMEWORK": "CUSTOM_CONTAINER",
    "AIP_PROJECT_NUMBER": "123456789012",
    "AIP_ENDPOINT_ID": "71",
    "AIP_DEPLOYED_MODEL_ID": "42",
    "AIP_MODEL_NAME": "71",
    "AIP_VERSION_NAME": "42",
    "AIP_MACHINE_TYPE": "n1-standard-4",
    "AIP_STORAGE_URI": "",
    "AIP_HEALTH_ROUTE": "/v1/endpoints/71/deployedModels/42",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/71/deployedModels/42:predict",
}


class Processes:
    """A container whose processes can be looked into; they run on this machine and in our network.

    Args:
        pid: of its first one, out here.
        environ: every AIP_* and LISTENER_* variable that this one has.
    """

    def __init__(self, pid: int, environ: Mapping[str, str]) -> None:
        self.pid, self.environ = pid, environ
        self.port = int(environ.get("AIP_HTTP_PORT", "8080"))

    def target(self, predict_route: str | None = None, health_route: str | None = None) -> Target:
        """How to reach it; routes from its environment unless they are given."""
        return Target(
            "127.0.0.1",
            self.port,
            predict_route or self.environ["AIP_PREDICT_ROUTE"],
            health_route or self.environ["AIP_HEALTH_ROUTE"],
        )

    def triton_pid(self) -> int:
        """The process of Triton.

        Raises:
            AssertionError: there is none.
        """
        return topmost(self.pid, "tritonserver ")

    def triton(self) -> Target:
        """Triton itself, past the listener; its port stands in its command line."""
        found = re.search(r"--http-port[= ](\d+)", command_line(self.triton_pid()))
        assert found is not None
        return Target("127.0.0.1", int(found[1]), "/v2", "/v2/health/ready")

    def given_up(self) -> int:
        """Connections that the listener has closed and of which Triton has not taken notice: CLOSE_WAIT at its port.

        While it works on a request that is no stream, Triton (2.51 at least) does not see that its caller has left.
        """
        port = f":{self.triton().port:04X}"
        lines = Path(f"/proc/{self.triton_pid()}/net/tcp").read_text().splitlines()[1:]
        return sum(fields[1].endswith(port) and fields[3] == "08" for fields in map(str.split, lines))

    def worker_pid(self) -> int:
        """The process that serves requests.

        Raises:
            AssertionError: there is none, or there are several.
        """
        return topmost(self.pid, "listener.worker")


class Container(Processes):
    """`listener up` in a session of its own, in an empty folder.

    Args:
        folder: for its log and as its working directory.
        arguments: of `listener up`.
        environ: every AIP_* and LISTENER_* variable that it gets.
    """

    def __init__(self, folder: Path, arguments: tuple[str, ...], environ: dict[str, str]) -> None:
        self.log = folder / "log"
        (folder / "empty").mkdir(parents=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIP_", "LISTENER_"))}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "listener", "up", *arguments],
                env={**kept, "PYTHONPATH": str(ROOT), **environ},
                cwd=folder / "empty",
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        super().__init__(self.process.pid, environ)

    def ready(self, target: Target | None = None, patience: float = 120.0) -> Target:
        """Waits until health says 200; gives the target."""
        asked = target or self.target()

        def is_ready() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output()}"
            return asked.health() == 200

        wait_for(is_ready, patience, self.output)
        return asked

    def output(self) -> str:
        """What it wrote so far."""
        return self.log.read_text(errors="replace")


@contextlib.contextmanager
def running(folder: Path, *arguments: str, **environ: str | None) -> Iterator[Container]:
    """A container that is gone afterwards, with its children, whatever was done to it.

    Args:
        folder: of its log.
        arguments: of `listener up`.
        environ: changes of the variables that Vertex sets; None takes one away.
    """
    port = {"AIP_HTTP_PORT": str(free_port()), "LISTENER_HOST": "127.0.0.1"}
    given = {name: value for name, value in {**VERTEX, **port, **environ}.items() if value is not None}
    container = Container(folder, arguments, given)
    try:
        yield container
    finally:
        end(container.process)
