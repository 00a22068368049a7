"""`python -m chaos.stops`: a listener is stopped under load again and again; no request that it has may be lost.

A connection that ends without an answer is allowed in one case alone: it was opened in the moment in which the port
was closed. The kernel has it by then and the listener has not, so nobody can answer. That is a *crossing*: the first
request of a connection, which ends within `_MOMENT`. Every fourth request takes up to 0.4 s, so one that is dropped
while it is inside is seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import orjson

from benchmarks.__main__ import progress
from chaos.load import HANGS, Seen, expected, judge
from chaos.stack import target
from tests.integration.stack import SHM, Stack, alive, descendants

#: Clients; every second one keeps its connection, as long as the listener does.
_CLIENTS = 24
#: Seconds: between the sending of a request and the end of its connection, if that was never taken; of load before the
#: signal.
_MOMENT, _BEFORE = 0.05, (0.3, 1.5)
_ROUTES = ("triple", "triple", "apart", "waiting")


@dataclass
class Stop:
    """What became of one stop.

    Attributes:
        seen: the requests with an answer, and those that hung.
        crossed: on connections that were opened while the port was closed.
        lost: others without an answer; in words.
        status: of the parent's exit.
        seconds: from the signal to it.
        left: processes, names in /dev/shm and temporary files that are there afterwards.
    """

    seen: Seen = field(default_factory=Seen)
    crossed: int = 0
    lost: list[str] = field(default_factory=list)
    status: int = 0
    seconds: float = 0.0
    left: list[str] = field(default_factory=list)

    @property
    def mistakes(self) -> list[str]:
        """In words; empty after a good stop."""
        refused = [f"{how} is no refusal of a stop" for how in self.seen.refused if how != "503"]
        hung = ["a request hung"] * self.seen.hung
        status = [f"exit status {self.status}"] if self.status else []
        return [*self.seen.wrong, *refused, *hung, *self.lost, *status, *(f"left: {name}" for name in self.left)]


class Clients:
    """Ask until the port is closed.

    Args:
        port: of the listener on the loopback.
        found: where what they see is noted.
    """

    def __init__(self, port: int, found: Stop) -> None:
        self._port, self._found = port, found

    async def run(self, seed: int) -> None:
        """Returns when no client gets a connection any more."""
        await asyncio.gather(
            *(self._client(random.Random(seed + number), number % 2 == 0) for number in range(_CLIENTS))
        )

    async def _client(self, chance: random.Random, keeps: bool) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except ConnectionError:
                return  # the port is closed
            try:
                is_first = True
                while await self._one(chance, reader, writer, is_first) and keeps:
                    is_first = False
            finally:
                writer.transport.abort()

    async def _one(
        self, chance: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_first: bool
    ) -> bool:
        """Whether the connection goes on."""
        route = chance.choice(_ROUTES)
        instances = [[chance.randrange(1_000_000) / 8 for _ in range(chance.choice([4, 400]))]]
        body = orjson.dumps({"instances": instances, "parameters": {"model": route}})
        head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: "
        sent = time.monotonic()
        try:
            async with asyncio.timeout(HANGS):
                writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = int(answer.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                told = await reader.readexactly(length)
        except TimeoutError:
            self._found.seen.hung += 1
            return False
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self._ended(time.monotonic() - sent, error, f"{route}{'' if is_first else ', kept'}", is_first)
            return False
        judge(self._found.seen, int(answer.split(b" ")[1]), told, expected(instances))
        return b"connection: close" not in answer.lower()

    def _ended(self, seconds: float, error: Exception, route: str, is_first: bool) -> None:
        began = isinstance(error, asyncio.IncompleteReadError) and error.partial
        if is_first and seconds < _MOMENT and not began:
            self._found.crossed += 1
        else:
            self._found.lost.append(
                f"a request of {route} was {seconds:.3f} s old when its connection ended: {error!r}"
            )


async def stopped(folder: Path, seed: int) -> Stop:
    """One listener, from its start to its end."""
    found, chance = Stop(), random.Random(seed)
    (temporary := folder / "tmp").mkdir()
    async with target(folder / "log", TMPDIR=str(temporary)) as whole:
        stack = whole.stack
        clients = asyncio.create_task(Clients(stack.port, found).run(seed))
        await asyncio.sleep(chance.uniform(*_BEFORE))
        family, names = descendants(stack.process.pid), claims(stack)
        begin = time.monotonic()
        found.status = await asyncio.to_thread(stack.stop)
        found.seconds = time.monotonic() - begin
        await clients
    found.left += [f"process {pid}" for pid in family if alive(pid)]
    found.left += [path.name for path in SHM.iterdir() if path.name.startswith(tuple(names))]
    found.left += [str(path) for path in temporary.rglob("*")]
    if not names or len(family) < 4:
        found.left.append(f"nothing could be seen: {names}, {family}")
    return found


def claims(stack: Stack) -> set[str]:
    """The beginnings of all names that a stack has in shared memory now."""
    names = set[str]()
    for pid in descendants(stack.process.pid):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            path = line.split(maxsplit=5)[5:]
            if path and path[0].startswith(f"{SHM}/listener-py-"):
                names.add(Path(path[0]).name[: len("listener-py-12345678")])
    return names


def summary(stops: Sequence[Stop]) -> str:
    """Of all stops, for people."""
    times = sorted(stop.seconds for stop in stops)
    middle = times[len(times) // 2]
    refused = sum(stop.seen.refused["503"] for stop in stops)
    return (
        f"{len(stops)} stops: {times[0]:.1f} s at the least, {middle:.1f} s in the middle, {times[-1]:.1f} s at most\n"
        f"{sum(stop.seen.requests for stop in stops):,} answers: {sum(stop.seen.right for stop in stops):,} right, "
        f"{refused:,} x 503; {sum(len(stop.lost) for stop in stops)} lost, "
        f"{sum(stop.crossed for stop in stops)} on connections that were opened in the moment the port closed\n"
        f"{sum(len(stop.mistakes) for stop in stops)} mistakes"
    )


@click.command()
@click.option("--times", type=click.IntRange(1), default=50, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(times: int, seed: int) -> None:
    """No request may be lost, and no process, name in /dev/shm or temporary file be left; else the exit status is 1."""
    say, stops = progress(), list[Stop]()
    for number in range(times):
        with tempfile.TemporaryDirectory(prefix="stops-") as folder:
            stop = asyncio.run(stopped(Path(folder), seed + number))
            stops.append(stop)
            say(
                f"{number + 1} of {times}: {stop.seconds:.1f} s, {stop.seen.requests:,} answers, {stop.crossed} crossed"
            )
            for words in stop.mistakes[:3]:
                say(f"mistake: {words}")
    print(summary(stops))
    if path := os.environ.get("STOPS_JSON"):
        rows = [{"seconds": stop.seconds, "answers": stop.seen.requests, "crossed": stop.crossed} for stop in stops]
        Path(path).write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(1 if any(stop.mistakes for stop in stops) else 0)


if __name__ == "__main__":
    main()
