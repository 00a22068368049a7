"""What the faults are tried on: a listener with two workers, pool processes and Triton, as a user starts it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path

from chaos.clock import Clock
from chaos.proxy import Proxy
from listener import probe
from tests.integration.stack import Stack, command_line, descendants, free_port, running

SERVICE = Path(__file__).parent / "service"
#: The time of a request, which is short so that what hangs is seen soon.
TIMEOUT = 3
WORKERS = 2
_SETTINGS = {"LISTENER_WORKERS": str(WORKERS), "LISTENER_PROCESSES": "1", "LISTENER_TIMEOUT": str(TIMEOUT)}


class Target:
    """One stack and its processes.

    Attributes:
        stack: the listener, with Triton below it or apart.
        folder: that of its log, and of what is made for it.
        proxy: between the two; None where Triton is below.
        clock: of all its processes; None where it is the machine's.
    """

    def __init__(self, stack: Stack, proxy: Proxy | None = None, clock: Clock | None = None) -> None:
        self.stack, self.folder, self._proxy, self._clock = stack, stack.log.parent, proxy, clock

    @property
    def proxy(self) -> Proxy:
        if self._proxy is None:
            raise LookupError("this stack has no proxy")
        return self._proxy

    @property
    def clock(self) -> Clock:
        if self._clock is None:
            raise LookupError("this stack has no clock of its own")
        return self._clock

    @property
    def url(self) -> str:
        return self.stack.url

    def date(self) -> float:
        """The time that an answer says, in seconds since 1970."""
        with urllib.request.urlopen(f"{self.url}/health", timeout=TIMEOUT) as answer:
            return parsedate_to_datetime(answer.headers["Date"]).timestamp()

    def stub(self) -> int:
        """The process of Triton's Python backend."""
        return self._below("triton_python_backend_stub")

    def worker(self) -> int:
        """The worker with the most connections, so that what is done to it is felt; the other one may have none."""
        return max(self._all("listener.worker"), key=lambda pid: len(os.listdir(f"/proc/{pid}/fd")))

    def settled_workers(self, seconds: float) -> int:
        """How many have been there for so long."""
        found, now = 0, time.time()
        for pid in self.stack.worker_pids():
            with contextlib.suppress(FileNotFoundError):
                found += now - os.stat(f"/proc/{pid}").st_ctime >= seconds
        return found

    def pool_process(self) -> int:
        """A process in which a worker runs hooks."""
        return self._below("sys.path[:]")

    def triton_is_ready(self) -> bool:
        """What Triton says itself, not what the listener believes."""
        port = re.search(r"--http-port=(\d+)", " ".join(map(command_line, self.stack.tritons())))
        return port is not None and probe.get(f"http://127.0.0.1:{port[1]}/v2/health/ready", 1.0)[0] == 200

    def _below(self, words: str) -> int:
        return self._all(words)[0]

    def _all(self, words: str) -> list[int]:
        found = [pid for pid in descendants(self.stack.process.pid) if words in command_line(pid)]
        if not found:
            raise LookupError(f"no process of {words}")
        return found


def mounting(sizes: Mapping[str, str]) -> list[str]:
    """Words in front of a command that give it file systems of its own, by folder; need root or user namespaces."""
    if not sizes:
        return []
    mounts = "".join(f"mount -t tmpfs -o size={size} chaos '{folder}' && " for folder, size in sizes.items())
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    return [*alone, "sh", "-c", f'{mounts}exec "$@"', "sh"]


@contextlib.asynccontextmanager
async def target(log: Path, words: Sequence[str] = (), clock: Clock | None = None, **env: str) -> AsyncIterator[Target]:
    """A stack that is ready; `words` stand in front of its command."""
    more = env | (clock.env if clock else {})
    with running(log, "up", SERVICE, None, words, **_SETTINGS, **more) as stack:
        await asyncio.to_thread(stack.until_workers, WORKERS)
        yield Target(stack, clock=clock)


@contextlib.asynccontextmanager
async def behind_proxy(log: Path, **env: str) -> AsyncIterator[Target]:
    """A stack that is ready, with a proxy between the listener and a Triton of its own."""
    real, between = free_port(), free_port()
    triton = {"LISTENER_TRITON_URL": f"127.0.0.1:{real}", "LISTENER_TRITON_METRICS_URL": f"127.0.0.1:{free_port()}"}
    proxy = Proxy(real)
    with running(log.with_suffix(".triton"), "triton", SERVICE, None, (), **triton):
        async with proxy.running(between):
            listener = triton | {"LISTENER_TRITON_URL": f"127.0.0.1:{between}"}
            with running(log, "serve", SERVICE, None, (), **_SETTINGS, **listener, **env) as stack:
                await asyncio.to_thread(stack.until_workers, WORKERS)
                yield Target(stack, proxy)
