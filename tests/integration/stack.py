"""A stack as a user runs it: real processes, real ports, real signals."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import requests

from listener.process import children

ROOT = Path(__file__).parents[2]
SHM = Path("/dev/shm")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """`listener COMMAND` as a child process in a session of its own.

    Args:
        log: receives its output.
        command: of the command line, with options if it has some.
        service: folder with listener.yaml, for --service; None leaves that out.
        folder: its working directory; None = ours.
        words: in front of the command, such as those that lead into other mounts (sealed.py).
        env: further variables.
    """

    def __init__(
        self,
        log: Path,
        command: str = "up",
        service: Path | None = ROOT,
        folder: Path | None = None,
        words: Sequence[str] = (),
        **env: str,
    ) -> None:
        self.port = int(env.get("AIP_HTTP_PORT", free_port()))
        self.log = log
        self.started = time.monotonic()
        elsewhere = {"PYTHONPATH": str(ROOT)} if folder else {}  # where Python would not find `listener` by itself
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *words,
                    sys.executable,
                    "-m",
                    "listener",
                    *command.split(),
                    *([f"--service={service}"] if service else []),
                ],
                cwd=folder,
                env={
                    **os.environ,
                    **elsewhere,
                    "LISTENER_HOST": "127.0.0.1",
                    "AIP_HTTP_PORT": str(self.port),
                    **env,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def health(self) -> tuple[int, Any]:
        """Status and body of /health; 0 where nobody answers."""
        try:
            answer = requests.get(f"{self.url}/health", timeout=5)
        except requests.ConnectionError:
            return 0, None
        return answer.status_code, answer.json()

    def predict(self, instances: list[Any], **more: Any) -> requests.Response:
        return requests.post(f"{self.url}/predict", json={"instances": instances, **more}, timeout=60)

    def until(self, status: int, patience: float = 60.0) -> float:
        """Waits until /health has a status; returns the seconds that it took."""
        return wait_for(lambda: self.health()[0] == status, patience, lambda: f"{self.health()}\n{self.output()}")

    def until_workers(self, starts: int) -> None:
        """Waits until each of so many starts of a worker has said that it is ready."""
        wait_for(lambda: self.output().count('"message":"ready"') >= starts, 60, self.output)

    def triton_pid(self) -> int:
        """Of the Triton that runs now; the kernel's list of children may miss one while another one ends."""
        wait_for(lambda: bool(self.tritons()), 5, self.output)
        return self.tritons()[0]

    def triton_url(self) -> str:
        """Of the Triton that runs now, for what the listener does not hand on."""
        words = command_line(self.triton_pid()).split()
        port = next(word.partition("=")[2] for word in words if word.startswith("--http-port="))
        return f"http://127.0.0.1:{port}"

    def worker_pids(self) -> set[int]:
        return {pid for pid in children(self.process.pid) if "listener.worker" in command_line(pid)}

    def tritons(self) -> list[int]:
        return [pid for pid in children(self.process.pid) if "tritonserver" in command_line(pid)]

    def regions(self) -> set[str]:
        """What this stack's Triton has in shared memory now."""
        return regions(self.triton_pid())

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM, patience: float = 30.0) -> int:
        """Sends a signal and waits for the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(patience)


@contextlib.contextmanager
def running(
    log: Path,
    command: str = "up",
    service: Path | None = ROOT,
    folder: Path | None = None,
    words: Sequence[str] = (),
    **env: str,
) -> Iterator[Stack]:
    """A stack that is gone afterwards, whatever the test did to it."""
    stack = Stack(log, command, service, folder, words, **env)
    try:
        yield stack
    finally:
        end(stack.process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and its family, in good order if that is possible."""
    family = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], patience: float, explain: Callable[[], str] = lambda: "") -> float:
    """Seconds until a condition holds.

    Raises:
        AssertionError: it does not within `patience` seconds.
    """
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > patience:
            raise AssertionError(f"not within {patience} s: {explain()}")
        time.sleep(0.02)
    return time.monotonic() - begin


def descendants(pid: int) -> set[int]:
    """Children, their children, and so on."""
    found = set[int]()
    for child in children(pid):
        found |= {child} | descendants(child)
    return found


def topmost(pid: int, words: str) -> int:
    """The one process below another that has these words in its command line, and no other such one above it.

    Raises:
        AssertionError: there is none, or there are several.
    """
    found = {each for each in descendants(pid) if words in command_line(each)}
    top = found - {child for each in found for child in descendants(each)}
    assert len(top) == 1, f"{words!r}: {[command_line(each) for each in top]}"
    return top.pop()


def environment_of(pid: int) -> dict[str, str]:
    """Of a process, as it was started."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().rstrip(b"\0").split(b"\0")
    return dict(os.fsdecode(pair).split("=", 1) for pair in pairs if b"=" in pair)


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def regions(triton: int) -> set[str]:
    """What the Triton with this process id has in shared memory now."""
    prefix = command_line(triton).partition("shm-region-prefix-name=")[2].split()[0]
    return {path.name for path in SHM.glob(f"{prefix}*")}


def left(names: set[str]) -> set[str]:
    """Those of the regions that still exist."""
    return {name for name in names if (SHM / name).exists()}
