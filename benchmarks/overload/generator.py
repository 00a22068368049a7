"""`python -m benchmarks.overload.generator`: asks a listener from a process of its own, and prints what came as JSON.

An open loop does not wait for answers; it is that of `listener load`. A closed one has so many connections, each with a
request at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Literal

import uvloop

from benchmarks.overload import figures
from benchmarks.overload.figures import CLOSED, UNANSWERED, Figures, Try, Window
from benchmarks.overload.questions import QUESTIONS, is_refusal
from listener.tools.load.arrivals import arrivals
from listener.tools.load.open_loop import TIMEOUT, OpenLoop
from listener.tools.load.wire import Address, Asked, Connection, connect, header

#: What a client of a closed loop does after a refusal: asks again at once, or after what Retry-After says.
Again = Literal["at once", "retry-after"]


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        port: of the listener, on 127.0.0.1.
        question: a key of QUESTIONS.
        rate: of an open loop, requests per second; 0 = a closed one.
        busy: connections of a closed loop.
        idle: further connections, which ask nothing.
        again: after a refusal, for a closed loop.
        seconds, warm_up: that count, and before them.
        most: connections of an open loop.
        patience: seconds after the end for what is still under way.
        seed: of the arrivals.
    """

    port: int
    question: str
    rate: float = 0.0
    busy: int = 0
    idle: int = 0
    again: Again = "retry-after"
    seconds: float = 4.0
    warm_up: float = 1.0
    most: int = 4000
    patience: float = 15.0
    seed: int = 1

    def as_json(self) -> str:
        return json.dumps(asdict(self))


class Run(ABC):
    """What open and closed loops share: the window, what is asked, and what is written down."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.question = plan, QUESTIONS[plan.question]
        self.head = (
            b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (plan.port, len(self.question.body(0)))
        )
        self.address = Address("127.0.0.1", plan.port)
        self.loop = asyncio.get_running_loop()
        self.window = Window(plan.warm_up, plan.warm_up + plan.seconds)
        self.cpu = 0.0

    async def go(self) -> Figures:
        """Asks for the time of the plan and waits for what is under way then."""
        await self.open()
        self.loop.call_later(self.window.begin, self._look_at_cpu)
        self.loop.call_later(self.window.end, self._look_at_cpu)
        self.start()
        await asyncio.sleep(self.window.end)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.plan.patience):
                while self.is_behind():
                    await asyncio.sleep(0.01)
        waited, gone = self.end()
        return self.window.figures(self.cpu / self.plan.seconds, waited, gone)

    @abstractmethod
    async def open(self) -> None:
        """Connections before the start."""

    @abstractmethod
    def start(self) -> None:
        """The first request leaves, or is to leave, now."""

    @abstractmethod
    def is_behind(self) -> bool:
        """Whether requests have no answer, or should have left and have not."""

    @abstractmethod
    def end(self) -> tuple[int, int]:
        """Writes down what has no answer and closes the connections; `waited` and `gone` of the figures."""

    def content(self, number: int) -> bytes:
        return self.head + self.question.body(number)

    def record(self, asked: Asked | None, now: float, status: int, body: bytes) -> str:
        """Writes down what an answer is, and says it."""
        if asked is None:  # nobody asked
            self.window.tries.append(Try(now, now, figures.WRONG, now))
            return figures.WRONG
        right = self.question.is_right(asked.number, body) if status == 200 else is_refusal(body)
        outcome = figures.outcome(status, right)
        self.window.tries.append(Try(asked.intended, now, outcome, asked.first))
        return outcome

    def _look_at_cpu(self) -> None:
        self.cpu = time.process_time() - self.cpu


class Open(Run):
    """Requests leave when they are to, on a pool of connections that grows."""

    async def open(self) -> None:
        self._asks = OpenLoop(self.address, self, self.plan.most)
        await self._asks.open(100)

    def start(self) -> None:
        self._asks.start(arrivals(self.plan.rate, self.window.end, self.plan.seed))

    def is_behind(self) -> bool:
        return self._asks.is_behind

    def end(self) -> tuple[int, int]:
        self._asks.give_up(math.inf)
        self._asks.close()
        return self._asks.waited, self._asks.gone

    def left(self, intended: float, now: float) -> None:
        if intended >= self.window.begin:
            self.window.lags.append(now - intended)

    def answered(self, asked: Asked | None, now: float, status: int, head: bytes, body: bytes) -> None:
        self.record(asked, now, status, body)

    def unanswered(self, asked: Asked, now: float, why: str) -> None:
        outcome = UNANSWERED if why == TIMEOUT else CLOSED
        self.window.tries.append(Try(asked.intended, now, outcome, asked.first))


class Closed(Run):
    """So many connections, each with a request at a time, which is asked again until it is answered."""

    async def open(self) -> None:
        self._idle = [await connect(self.address, self) for _ in range(self.plan.idle)]
        self._busy = [await connect(self.address, self) for _ in range(self.plan.busy)]
        self._begin, self._numbers, self._gone, self._ended = 0.0, 0, 0, False
        self._under_way: set[Connection] = set()

    @property
    def now(self) -> float:
        """Seconds from the start, as of `OpenLoop`."""
        return time.monotonic() - self._begin

    def start(self) -> None:
        self._begin = time.monotonic()
        for client in self._busy:
            self._ask(client, 0.0, 0.0)

    def is_behind(self) -> bool:
        return bool(self._under_way)

    def end(self) -> tuple[int, int]:
        for client in self._under_way:
            if client.asked:
                self.window.tries.append(Try(client.asked.intended, self.now, UNANSWERED, client.asked.first))
        self._ended = True
        for client in [*self._idle, *self._busy]:
            client.transport.close()
        return 0, self._gone

    def answered(self, client: Connection, status: int, head: bytes, body: bytes) -> None:
        asked, client.asked, now = client.asked, None, self.now
        outcome = self.record(asked, now, status, body)
        self._under_way.discard(client)
        if asked is None or now >= self.window.end:
            return
        if not outcome.isdigit():
            self._ask(client, now, now)
        elif self.plan.again == "at once":
            self._ask(client, now, asked.first, asked.number)
        else:
            wait = float(header(head, b"retry-after") or 0)
            self.loop.call_later(wait, self._again, client, Asked(asked.number, now + wait, asked.first))

    def lost(self, client: Connection) -> None:
        if client in self._under_way and client.asked:
            self._under_way.discard(client)
            self.window.tries.append(Try(client.asked.intended, self.now, CLOSED, client.asked.first))
        elif self._begin and not self._ended:
            self._gone += 1

    def _ask(self, client: Connection, intended: float, first: float, number: int = -1) -> None:
        if number < 0:
            number, self._numbers = self._numbers, self._numbers + 1
        self._under_way.add(client)
        client.ask(Asked(number, intended, first), self.content(number))

    def _again(self, client: Connection, asked: Asked) -> None:
        if self.now < self.window.end and client.is_open:
            self.window.lags.append(self.now - asked.intended)
            self._ask(client, asked.intended, asked.first, asked.number)


async def _run(plan: Plan) -> Figures:
    return await (Open(plan) if plan.rate else Closed(plan)).go()


def main() -> None:
    """The plan comes on stdin."""
    plan = Plan(**json.load(sys.stdin))
    gc.disable()  # nothing here is a cycle, and a collection would be a lag
    json.dump(uvloop.run(_run(plan)).as_json(), sys.stdout)


if __name__ == "__main__":
    main()
