"""Gate, coalescer, client and shared memory together, with a Triton that keeps what it was given as long as it likes.

Whatever comes, fails, leaves, times out or restarts, in whatever order: each request ends, with its own numbers or an
error of ours, and no permit, byte, share, place of a call or lease is lost. Triton reads and writes shared memory when
it answers and not before, also for calls that nobody waits for any more: a lease that is given to another request too
early shows as that request's wrong numbers.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from numpy.typing import NDArray

from listener.errors import DeadlineExceeded, ListenerError
from listener.gate import Gate, Limits, Permit, Phase
from listener.tensors import ModelSpec, TensorSpec
from listener.triton.client import TritonClient
from listener.triton.model import Model
from listener.triton.retrying import Retries
from listener.triton.shm import SharedMemory
from listener.triton.wire import Answer, ConnectionLost, Unanswered, Unsent
from tests.triton.conftest import Control
from tests.triton.on_a_loop import OnALoop

_NUMBERS = 16384  # of a row: two rows are enough for shared memory
_ROW = _NUMBERS * 4  # bytes
SPEC = ModelSpec("m", (TensorSpec("X", "FP32", (_NUMBERS,)),), (TensorSpec("Y", "FP32", (_NUMBERS,)),), 8)
LIMITS = Limits(requests=6, nbytes=12 * _ROW, waiting=3, route=5, client=5)
LOST: list[type[ConnectionLost]] = [Unsent, Unanswered, ConnectionLost]


@dataclass(eq=False)
class Request:
    number: int
    rows: int
    route: str
    raw: bool  # its body lies in a lease of its own
    permit: Permit | None = None
    task: asyncio.Task[NDArray[Any]] | None = None


@dataclass(eq=False)
class Execution:
    """One call, as Triton has it."""

    said: dict[str, Any]
    binary: bytes
    done: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Twice(Retries):
    """Tries again at once, as often as one call may."""

    def pause(self, tried: int) -> float | None:
        return 0.0 if tried < 2 else None


class NothingLost(OnALoop):
    """A request goes through them as an endpoint has it."""

    TURNS = 40

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.open_loop()
        self.requests: list[Request] = []
        self.executions: list[Execution] = []  # whose answers are still wanted by the wire
        self.lost = False  # a call was, since Triton's last start
        self.ghosts: list[Execution] = []  # whose connections are lost; Triton may go on with them
        self.run(self.build())

    async def build(self) -> None:
        self.gate = Gate(LIMITS, 60.0)
        self.gate.phase = Phase.READY
        self.memory = SharedMemory(8 << 20, shm=Path(self.folder.name))
        await self.memory.register(Control())
        self.client = TritonClient("http://127.0.0.1:1", self.memory)
        self.client._retries = Twice()
        self.client._wire.send = self.send  # type: ignore[method-assign]
        self.model = Model("m", self.client)
        self.model.know(SPEC)

    def run(self, doing: Any) -> Any:
        return self.loop.run_until_complete(doing)

    # Triton

    async def send(self, head: bytes, parts: Sequence[bytes | memoryview] = (), twice: bool = True) -> Answer:
        """In the place of `Wire.send`."""
        whole = head + b"".join(bytes(part) for part in parts)
        heads, _, body = whole.partition(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in heads.split(b"\r\n") if line.startswith(b"Inference-Header"))
        execution = Execution(orjson.loads(body[:length]), body[length:])
        self.executions.append(execution)
        try:
            return await execution.done
        finally:
            if execution in self.executions:
                self.executions.remove(execution)

    def execute(self, execution: Execution) -> Answer:
        """Y = X, read and written where the call says."""
        (given,), (wanted,) = execution.said["inputs"], execution.said["outputs"]
        data = bytes(self.place(given)) if "shared_memory_region" in given["parameters"] else execution.binary
        entry: dict[str, Any] = {"name": "Y", "datatype": "FP32", "shape": given["shape"], "parameters": {}}
        if "shared_memory_region" in wanted["parameters"]:
            self.place(wanted)[: len(data)] = data
            entry["parameters"], data = dict(wanted["parameters"]), b""
        else:
            entry["parameters"]["binary_data_size"] = len(data)
        header = orjson.dumps({"model_name": "m", "outputs": [entry]})
        return Answer(200, {"inference-header-content-length": str(len(header))}, header + data)

    def place(self, tensor: dict[str, Any]) -> memoryview:
        said, pages = tensor["parameters"], self.memory._pages
        assert pages is not None
        offset = said.get("shared_memory_offset", 0)
        return pages.view(offset, offset + said["shared_memory_byte_size"])

    # What happens

    async def stay(self, request: Request) -> NDArray[Any]:
        """As an endpoint has it."""
        nbytes = request.rows * _ROW
        lease = self.memory.lease(nbytes) if request.raw else None
        try:
            async with self.gate.enter(None, nbytes, f"10.0.0.{request.number % 2}") as permit:
                request.permit = permit
                permit.share(request.route)
                if lease:
                    array = np.frombuffer(lease.view, np.float32).reshape(request.rows, _NUMBERS)
                    array[...] = request.number
                else:
                    array = np.full((request.rows, _NUMBERS), request.number, np.float32)
                return np.array((await self.model.infer({"X": array}))["Y"])
        finally:
            request.permit = None
            if lease:
                lease.__exit__(None, None, None)

    @rule(
        many=st.lists(
            st.tuples(st.integers(1, 8), st.sampled_from("ab"), st.booleans()),
            min_size=1,
            max_size=5,
        )
    )
    def come(self, many: list[tuple[int, str, bool]]) -> None:
        for rows, route, raw in many:
            request = Request(len(self.requests) + 1, rows, route, raw and rows > 1)
            request.task = self.loop.create_task(self.stay(request))
            self.requests.append(request)
        self.turn()

    @precondition(lambda self: self.executions)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        execution = data.draw(st.sampled_from(self.executions))
        execution.done.set_result(self.execute(execution))
        self.turn()

    @precondition(lambda self: self.executions)
    @rule(data=st.data(), status=st.sampled_from([500, 503]))
    def fail(self, data: st.DataObject, status: int) -> None:
        execution = data.draw(st.sampled_from(self.executions))
        execution.done.set_result(Answer(status, {}, b'{"error":"no"}'))
        self.turn()

    @precondition(lambda self: self.executions)
    @rule(data=st.data(), kind=st.sampled_from(LOST))
    def lose(self, data: st.DataObject, kind: type[ConnectionLost]) -> None:
        execution = data.draw(st.sampled_from(self.executions))
        execution.done.set_exception(kind("lost"))
        if kind is not Unsent:
            self.ghosts.append(execution)
            self.lost = True
        self.turn()

    @precondition(lambda self: self.ghosts)
    @rule(data=st.data())
    def write_late(self, data: st.DataObject) -> None:
        ghost = data.draw(st.sampled_from(self.ghosts))
        self.ghosts.remove(ghost)
        self.execute(ghost)

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.living))
        assert request.task is not None
        request.task.cancel()
        self.turn()

    @precondition(lambda self: any(request.permit for request in self.living))
    @rule(data=st.data())
    def time_out(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from([request for request in self.living if request.permit]))
        assert request.permit is not None
        request.permit.end(DeadlineExceeded("late"))
        self.turn()

    @rule()
    def restart(self) -> None:
        self.memory.suspend()
        self.ghosts.clear()
        for execution in list(self.executions):
            execution.done.set_exception(Unanswered("Triton is gone"))
        self.turn()
        for execution in list(self.executions):  # those of further tries, which meet nobody
            execution.done.set_exception(Unsent("nobody there"))
        self.turn()
        self.ghosts.clear()
        self.lost = False
        assert self.run(self.memory.register(Control()))

    # What has to hold

    @property
    def living(self) -> list[Request]:
        return [request for request in self.requests if request.task and not request.task.done()]

    @invariant()
    def whoever_is_done_has_its_own_numbers_or_an_error_of_ours(self) -> None:
        for request in self.requests:
            assert request.task is not None
            if not request.task.done() or request.task.cancelled():
                continue
            error = request.task.exception()
            if error is None:
                outcome = request.task.result()
                assert outcome.shape == (request.rows, _NUMBERS)
                assert np.all(outcome == request.number), (request.number, set(outcome.ravel().tolist()))
            else:
                assert isinstance(error, ListenerError), repr(error)

    @invariant()
    def the_gate_counts_those_who_are_here(self) -> None:
        gate = self.gate
        inside = [permit for permit in gate._permits if permit.inside]
        assert gate.inside == len(inside) <= LIMITS.requests
        assert gate._bytes == sum(permit.nbytes for permit in inside) <= LIMITS.nbytes
        assert gate.waiting <= LIMITS.waiting
        assert gate.inside + gate.waiting == len(self.living)
        assert sum(gate.routes._held.values()) == gate.inside
        assert sum(gate._clients._held.values()) == len(self.living)

    @invariant()
    def nobody_waits_for_what_is_free(self) -> None:
        first = self.gate._waiting.first
        if first is not None:
            assert self.gate.inside == LIMITS.requests or self.gate._bytes + first.nbytes > LIMITS.nbytes

    @invariant()
    def someone_is_asked_as_long_as_someone_waits(self) -> None:
        assert self.executions or not self.living

    @invariant()
    def nothing_was_said_to_nobody(self) -> None:
        assert self.complaints == []

    def teardown(self) -> None:
        while self.executions:
            execution = self.executions[0]
            execution.done.set_result(self.execute(execution))
            self.turn()
        self.whoever_is_done_has_its_own_numbers_or_an_error_of_ours()
        assert self.living == []
        assert (self.gate.inside, self.gate.waiting, self.gate._bytes) == (0, 0, 0)
        assert (self.gate.routes._held, self.gate._clients._held) == ({}, {})
        coalescer = self.model._coalescer
        assert coalescer is not None
        assert (coalescer._under_way, coalescer._queues, coalescer._calls) == (0, {}, set())
        assert self.client._given_up == set()
        parked = {lease for lease in self.memory._out if self.memory.is_parked(lease)}
        assert set(self.memory._out) == parked, "a lease that nobody has, and nobody parked"
        assert self.lost or not parked, "Triton has answered every call, so it has none of them"
        self.restart()
        assert self.memory._out == {}
        lease = self.memory.lease(self.memory.size)
        assert lease is not None, "all of it is free again"
        lease.release()
        assert asyncio.all_tasks(self.loop) == set()
        self.memory.close()
        self.loop.close()
        self.folder.cleanup()
        self.nothing_was_said_to_nobody()


NothingLost.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestNothingLost = NothingLost.TestCase
