"""`python -m listener.tools.load.generator`: asks a server, in a process of its own that does nothing else.

On stdin come a Target, then Orders, one at a time, or the word `stop`, which ends the one under way; on stdout go
events (orders.py). It ends with its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import ssl
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import uvloop

from listener import __version__
from listener.tools.load import orders
from listener.tools.load.arrivals import arrivals, percentile
from listener.tools.load.figures import Figures, Record
from listener.tools.load.open_loop import UNFINISHED, OpenLoop
from listener.tools.load.orders import Order, Target
from listener.tools.load.wire import Address, Asked

#: Seconds between two looks at what is late, and between two at how it goes.
_LOOK, _SAY = 0.02, 0.25


class Step:
    """One step, as a Book of the loop that asks.

    Args:
        order: of it.
        contents: whole requests, which take turns.
    """

    def __init__(self, order: Order, contents: list[bytes]) -> None:
        self.order, self._contents, self.record = order, contents, Record()

    def content(self, number: int) -> bytes:
        return self._contents[number % len(self._contents)]

    def left(self, intended: float, now: float) -> None:
        if intended >= self.order.warm_up:
            self.record.lags.append(now - intended)

    def answered(self, asked: Asked | None, now: float, status: int, head: bytes, body: bytes) -> None:
        if asked is None:
            self.record.add(now, now, "answer to nothing")
        else:
            self.record.add(asked.intended, now, "" if status == 200 else f"status {status}")

    def unanswered(self, asked: Asked, now: float, why: str) -> None:
        self.record.add(asked.intended, now, why)


class Generator:
    """Takes one step after the other on the same connections."""

    def __init__(self, target: Target) -> None:
        self._target = target
        parts = urllib.parse.urlsplit(target.url)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.netloc.rpartition("@")[2]
        self._path = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
        self._address = Address(parts.hostname or "", parts.port or (443 if tls else 80), tls)
        self._stopped = asyncio.Event()
        self._begin = 0.0
        self._asks: OpenLoop | None = None

    def stop(self) -> None:
        """Ends the step that is under way."""
        self._stopped.set()

    def close(self) -> None:
        """Ends all connections."""
        if self._asks:
            self._asks.close()

    async def take(self, order: Order) -> tuple[Figures, list[Figures]]:
        """One step: its figures, and those of its slices.

        Raises:
            OSError: the first connection cannot be had.
        """
        step = Step(order, requests(self._host, self._path, order.headers or {}, self._target.bodies))
        asks = await self._opened(step)
        self._stopped.clear()
        whole = order.warm_up + order.seconds
        begun, waited = time.monotonic(), asks.waited
        self._begin = self._begin or begun
        asks.start(arrivals(order.rate, whole, order.seed))
        cpu, cut = await self._asked(step, asks)
        end = min(asks.now, whole)
        say(orders.ENDS)
        await self._drained(asks, min(order.patience, self._target.timeout))
        begin = min(order.warm_up, end / 2)
        at = begun - self._begin + begin
        figures = replace(
            step.record.window(begin, end),
            cpu=cpu,
            waited=asks.waited - waited,
            connections=asks.connections,
            cut=cut,
            at=at,
        )
        return figures, list(self._slices(step, begin, end, at))

    async def _opened(self, step: Step) -> OpenLoop:
        if self._asks is None:
            self._asks = OpenLoop(self._address, step, self._target.connections)
            await self._asks.open(1)
        self._asks.book = step
        return self._asks

    async def _asked(self, step: Step, asks: OpenLoop) -> tuple[float, bool]:
        """Until its end; the CPU's share of the window, and whether the step was cut."""
        order, begun, cpu, said = step.order, 0.0, 0.0, 0.0
        cut = False
        while not self._stopped.is_set() and not cut and asks.now < order.warm_up + order.seconds:
            now = asks.now
            if not begun and now >= order.warm_up:
                begun, cpu = now, time.process_time()
                say(orders.BEGINS)
            if now - said >= _SAY:
                said = now
                _say_how(step, asks)
            asks.give_up(now - self._target.timeout)
            cut = order.late > 0 and now > order.warm_up + 0.3 and now - asks.oldest() > order.late
            await asyncio.sleep(_LOOK)
        asks.stop()
        window = asks.now - begun
        return (time.process_time() - cpu) / window if begun and window > 0 else math.nan, cut

    async def _drained(self, asks: OpenLoop, patience: float) -> None:
        """Waits for what is under way, and gives up the rest."""
        begin = asks.now
        while asks.is_behind and asks.now - begin < (min(patience, 1.0) if self._stopped.is_set() else patience):
            asks.give_up(asks.now - self._target.timeout)
            await asyncio.sleep(_LOOK / 4)
        asks.give_up(math.inf, UNFINISHED)
        await asyncio.sleep(0)
        while asks.is_behind:  # connections that were being made have to say so themselves
            await asyncio.sleep(_LOOK)

    def _slices(self, step: Step, begin: float, end: float, at: float) -> Iterator[Figures]:
        width = (end - begin) / step.order.slices
        for place in range(step.order.slices if step.order.slices > 1 else 0):
            first = begin + place * width
            yield replace(step.record.window(first, first + width), at=at + place * width)


def requests(host: str, path: str, headers: Mapping[str, str], bodies: Any) -> list[bytes]:
    """Whole requests, one for each body.

    Args:
        host: for the header Host.
        path: with its query.
        headers: further ones; those of the same name take the place of ours.
        bodies: texts.
    """
    ours = {"Host": host, "Content-Type": "application/json", "User-Agent": f"listener-load/{__version__}"}
    ours |= {"Accept-Encoding": "identity"}  # unpacking would be this process's work
    names = {name.lower() for name in headers}
    ours = {name: value for name, value in ours.items() if name.lower() not in names} | dict(headers)
    head = f"POST {path or '/'} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in ours.items())
    encoded = [body.encode() for body in bodies]
    return [b"%bContent-Length: %d\r\n\r\n%b" % (head.encode("latin-1"), len(body), body) for body in encoded]


def say(what: str, **more: Any) -> None:
    """One event, a line on stdout."""
    print(json.dumps({"says": what, **more}), flush=True)


def _say_how(step: Step, asks: OpenLoop) -> None:
    took = step.record.latest(asks.now - 1.0)
    say(orders.NOW, p50=percentile(took, 0.5), p99=percentile(took, 0.99), requests=len(step.record))


class _Stdin(asyncio.Protocol):
    """Lines, whatever their length."""

    def __init__(self) -> None:
        self._came = b""
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()
        self.stop: Any = lambda: None

    def data_received(self, data: bytes) -> None:
        *lines, self._came = (self._came + data).split(b"\n")
        for line in lines:
            if line == b"stop":
                self.stop()
            else:
                self.lines.put_nowait(line)

    def connection_lost(self, error: Exception | None) -> None:
        self.stop()
        self.lines.put_nowait(b"")


async def _run() -> None:
    _, stdin = await asyncio.get_running_loop().connect_read_pipe(_Stdin, sys.stdin)
    generator = Generator(Target(**json.loads(await stdin.lines.get())))
    stdin.stop = generator.stop
    say(orders.READY)
    while line := await stdin.lines.get():
        try:
            figures, slices = await generator.take(Order(**json.loads(line)))
        except OSError as error:
            say(orders.FAILED, why=str(error.strerror or error))
            continue
        say(orders.DONE, figures=figures.as_json(), slices=[one.as_json() for one in slices])
        gc.collect()  # between two steps, as it would be a lag within one
    generator.close()


def main() -> None:
    gc.disable()
    with contextlib.suppress(BrokenPipeError):
        uvloop.run(_run())


if __name__ == "__main__":
    main()
