"""Contract, item 4: Triton gets nothing of the platform's environment, and does not fight for the container's port."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.container import Processes
from tests.integration.stack import descendants, environment_of

pytestmark = pytest.mark.triton

_LISTENING = "0A"


@dataclass(frozen=True)
class Socket:
    """One that listens: the address as /proc has it, and the port."""

    address: str
    port: int


def listening(pid: int) -> set[Socket]:
    """The TCP sockets on which a process takes connections."""
    links = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found = set[Socket]()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and f"socket:[{fields[9]}]" in links:
                address, _, port = fields[1].partition(":")
                found.add(Socket(address, int(port, 16)))
    return found


def test_neither_triton_nor_its_stubs_have_a_variable_of_the_platform(container: Processes) -> None:
    triton = container.triton_pid()
    stubs = descendants(triton)
    assert stubs
    for pid in {triton} | stubs:
        environ = environment_of(pid)
        assert {name for name in environ if name.startswith("AIP_")} == set()
        assert "PATH" in environ  # it was the environment indeed


def test_the_listener_has_them(container: Processes) -> None:
    given = {name: value for name, value in container.environ.items() if name.startswith("AIP_")}
    assert given["AIP_MODE"] == "PREDICTION"
    assert given.items() <= environment_of(container.worker_pid()).items()


def test_triton_listens_on_loopback_alone_and_not_on_our_port(container: Processes) -> None:
    sockets = listening(container.triton_pid())
    assert sockets
    assert {socket.address for socket in sockets} == {"0100007F"}  # 127.0.0.1
    assert container.port not in {socket.port for socket in sockets}
    assert container.port in {socket.port for socket in listening(container.worker_pid())}


def test_triton_has_no_frontend_of_the_platform(container: Processes) -> None:
    """Neither its Vertex routes on its HTTP port, nor a third port beside HTTP and metrics."""
    assert len(listening(container.triton_pid())) == 2
    triton = container.triton()
    assert triton.get(container.environ["AIP_HEALTH_ROUTE"]).status == 404
    assert triton.post(container.environ["AIP_PREDICT_ROUTE"], b"{}").status == 404
