"""The connection to Triton: readiness and configuration through tritonclient, inference over connections of our own.

Large tensors lie in shared memory and the call names their places; all else travels as bytes. Every status and every
failure becomes one of this package's errors here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import urllib.parse
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import aiohttp
from numpy.typing import NDArray
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from listener.batches import padding
from listener.call import Arrays
from listener.errors import BadRequest, ListenerError, TritonFailed, Unavailable
from listener.metrics.meter import MEMORY, Meter
from listener.metrics.times import CURRENT
from listener.tensors import ModelSpec, TensorError
from listener.triton import refusals
from listener.triton.codec import NOWHERE, Codec, Group, traced
from listener.triton.placing import Places, place, worth_it
from listener.triton.retrying import Retries
from listener.triton.shm import Lease, SharedMemory
from listener.triton.wire import Answer, ConnectionLost, ProtocolError, Unanswered, Unsent, Wire

log = logging.getLogger("listener.triton")

_HEADER_LENGTH = "inference-header-content-length"
#: To Triton, which serves them with a few threads; further calls wait for one.
_CONNECTIONS = 256
#: No answer, or none of Triton's; ValueError: not JSON.
_SILENT = (InferenceServerException, aiohttp.ClientError, TimeoutError, OSError, ValueError)
_CONTROL_TIMEOUT = 2.0  # seconds for a readiness or configuration call
_TRIM_EVERY = 60.0  # seconds


class TritonClient:
    """One Triton, as one event loop talks to it. Use `open` and `close` on that loop.

    Args:
        url: `http://host:port`.
        memory: shared with that Triton; None where it is on another machine.
        busy_wait: seconds, as `Wire` has it.
        meter: counts calls; None = nobody does.

    Attributes:
        meter: as above.
        answers: Triton answered `server_ready` when it was last asked, be it with a no.
    """

    def __init__(
        self, url: str, memory: SharedMemory | None = None, busy_wait: float = 0.0, meter: Meter | None = None
    ) -> None:
        self.meter = meter
        parts = urllib.parse.urlsplit(url)
        self._netloc = parts.netloc
        self._wire = Wire(parts.hostname or "127.0.0.1", parts.port or 80, _CONNECTIONS, busy_wait)
        self._memory = memory
        self._retries = Retries()
        self.answers = True
        self._control: Any = None
        self._trimming: asyncio.Task[None] | None = None
        self._given_up: set[asyncio.Task[Answer]] = set()  # calls, with leases, for which nobody waits any more

    async def open(self) -> None:
        self._control = InferenceServerClient(self._netloc, conn_timeout=_CONTROL_TIMEOUT)
        if self._memory:
            self._trimming = asyncio.create_task(_trim(self._memory))

    async def close(self) -> None:
        """Closes every connection: Triton waits its whole exit timeout for open ones."""
        if self._trimming:
            self._trimming.cancel()
        await self._wire.close()
        await asyncio.gather(*self._given_up, return_exceptions=True)
        if self._control:
            await self._control.close()
        if self._memory:
            self._memory.close()

    async def server_ready(self) -> bool:
        """Whether Triton answers and says that it is ready; never raises."""
        ready = await self._ask(self._control.is_server_ready())
        self.answers = ready is not None
        if self._memory and not ready:
            self._memory.suspend()
        return bool(ready)

    async def introduce(self) -> None:
        """What a Triton that has just become ready must be told; never raises."""
        if self._memory:
            await self._memory.register(self._control)

    async def model_ready(self, name: str, version: str = "") -> bool:
        """Whether a version of the model, or some one, can be called; never raises."""
        return bool(await self._ask(self._control.is_model_ready(name, version)))

    async def index(self) -> dict[str, tuple[str, ...]]:
        """Every model of Triton's repository, in whatever state, with the versions that can be called, in order.

        Raises:
            Unavailable: Triton does not say.
        """
        try:
            async with asyncio.timeout(_CONTROL_TIMEOUT):
                entries = await self._control.get_model_repository_index()
            found: dict[str, set[str]] = {}
            for entry in entries:
                versions = found.setdefault(str(entry["name"]), set())
                if entry.get("state") == "READY" and "version" in entry:
                    versions.add(str(entry["version"]))
        except (*_SILENT, KeyError, TypeError, AttributeError) as error:
            raise Unavailable("Triton does not say which models it has") from error
        return {name: tuple(sorted(versions, key=int)) for name, versions in sorted(found.items())}

    async def spec(self, name: str) -> ModelSpec:
        """The model's tensors and batch size.

        Raises:
            Unavailable: Triton does not answer, or does not have the model ready; or its configuration asks for what
                cannot be done.
        """
        try:
            spec = ModelSpec.from_config(await self._control.get_model_config(name))
            padding(spec)
            return spec
        except TensorError as error:
            raise Unavailable(f"model {name!r} cannot be served: {error}") from error
        except (*_SILENT, KeyError, TypeError) as error:
            raise Unavailable(f"the configuration of model {name!r} cannot be read from Triton") from error

    def codec(self, spec: ModelSpec, version: str = "", top_k: int = 0) -> Codec:
        """Encodes calls of a model for `infer`.

        Args:
            spec: of the model.
            version: one of it; "" = Triton chooses.
            top_k: so many classes are wanted in place of each labelled output; 0 = none are.
        """
        return Codec(spec, self._netloc, version, top_k)

    async def infer(self, model: str, codec: Codec, groups: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
        """One inference call for some requests as one batch. Whoever waits for it bounds its time.

        Args:
            model: its name.
            codec: of that model.
            groups: each request's inputs, all with the same names, dtypes and shapes but for the leading batch
                dimension; without that one where the model does not batch, and then only one group.

        Returns:
            All outputs by name, for the rows of all groups. BYTES come as object arrays of `bytes`, BF16 as FP32.
            Arrays may be read-only.

        Raises:
            BadRequest: Triton finds fault with the request.
            Unavailable: Triton cannot be reached, went away, or has the model not ready.
            TritonFailed: Triton answered 5xx or rubbish.
        """
        memory = self._memory
        if codec.bf16:
            groups = codec.as_sent(groups)
        if memory and worth_it(groups, codec):
            places = place(groups, codec, memory)
            outputs = await self._through_memory(model, codec, places, memory) if places else None
            if self.meter:
                self.meter.count(MEMORY, "bytes" if outputs is None else "shared memory")
            if outputs is not None:
                return outputs
        return await self._outcome(model, codec, await self._exchange(codec, groups))

    async def _through_memory(
        self, model: str, codec: Codec, places: Places, memory: SharedMemory
    ) -> dict[str, NDArray[Any]] | None:
        """The outputs; None where they have to be asked for as bytes.

        That is so where this Triton does not know the region, an output does not fit its place, or the connection was
        lost and the call may be repeated, though not with the same leases.
        """
        with contextlib.ExitStack() as stack:
            for lease in places.taken:
                stack.enter_context(lease)
            try:
                answer = await self._exchange(codec, places.groups, places)
            except Unanswered:
                return None  # Triton may still have these leases, which are parked; bytes are everybody's own
            if answer.status in (400, 404) and b"shared memory region" in answer.body:
                memory.suspend()
                return None
            if answer.status >= 400 and places.outputs and b"shared memory size specified" in answer.body:
                _distrust(model, codec, answer)
                return None
            return await self._outcome(model, codec, answer, places.views())

    async def _see_through(self, exchange: Coroutine[Any, Any, Answer], places: Places) -> Answer:
        """The answer to a call whose leases are free only when Triton has answered, whoever still waits for it.

        So a call that is given up goes on: closing its connection would leave nobody to say when that is.
        """
        task, leases = asyncio.create_task(exchange), places.taken + places.found
        try:
            return await asyncio.shield(task)
        except Unsent:
            raise  # Triton has heard of none of them
        except BaseException:
            for lease in leases:
                lease.park(task)  # Triton may go on with them
            self._given_up.add(task)
            task.add_done_callback(partial(self._seen_off, leases=leases))  # also if it has just ended
            raise

    def _seen_off(self, task: asyncio.Task[Answer], leases: Sequence[Lease]) -> None:
        """A call that was given up has come to its end."""
        self._given_up.discard(task)
        if not task.cancelled() and (task.exception() is None or isinstance(task.exception(), Unsent)):
            for lease in leases:
                lease.release(task)

    async def _exchange(self, codec: Codec, groups: Sequence[Group], places: Places | None = None) -> Answer:
        """The answer, perhaps to a further try (`retrying.py`). Whoever waits bounds the time of them all.

        Tried again is what Triton has not begun with: it could not be reached, or answered 503, which ends its use of
        the leases as well. What it may have begun with is tried again if that does no harm: where rows do not depend on
        those before, and as bytes alone. A first execution could still write to its outputs' leases when the second
        one's answer has made them another request's.

        Raises:
            Unanswered: `places` are Triton's still, but the call may be repeated without them.
            Unavailable, TritonFailed: there is no answer, or none of HTTP.
        """
        head, parts = codec.request(groups, places.slots() if places else NOWHERE)
        if (times := CURRENT.get()) and times.traceparent:
            head = traced(head, times.traceparent)
        twice = codec.repeatable and places is None
        self._retries.calls += 1
        tried = 0
        while True:
            try:
                sent = self._wire.send(head, parts, twice)
                answer = await (self._see_through(sent, places) if places else sent)
                if answer.status != 503 or not codec.repeatable or not await self._paused(tried):
                    return answer
            except Unanswered as error:
                begun = not isinstance(error, Unsent)  # perhaps
                if (begun and not codec.repeatable) or not await self._paused(tried):
                    raise Unavailable("Triton cannot be reached") from error
                if begun and places:
                    raise
            except ConnectionLost as error:
                raise Unavailable("Triton cannot be reached") from error
            except ProtocolError as error:
                raise TritonFailed("Triton's answer is none of HTTP") from error
            tried += 1

    async def _paused(self, tried: int) -> bool:
        """Waits before a further try; False = there is none. A Triton that is known to be away is not tried again."""
        pause = self._retries.pause(tried) if self.answers else None
        if pause is not None:
            await asyncio.sleep(pause)
        return pause is not None

    async def _outcome(
        self, model: str, codec: Codec, answer: Answer, placed: Mapping[str, memoryview] = NOWHERE
    ) -> dict[str, NDArray[Any]]:
        if answer.status == 200:
            return codec.response(answer.body, answer.headers.get(_HEADER_LENGTH), placed)
        if answer.status in (400, 404) and not await self.model_ready(model, codec.version):
            what = f"version {codec.version} of model {model!r}" if codec.version else f"model {model!r}"
            raise Unavailable(f"{what} is not ready")  # Triton makes that the caller's fault
        raise refusal(model, answer.status, answer.body)

    async def _ask(self, question: Any) -> bool | None:
        """Yes or no; None = there was no answer."""
        try:
            async with asyncio.timeout(_CONTROL_TIMEOUT):
                return bool(await question)
        except _SILENT:
            return None


async def _trim(memory: SharedMemory) -> None:
    while True:
        await asyncio.sleep(_TRIM_EVERY)
        memory.trim()


def _distrust(model: str, codec: Codec, answer: Answer) -> None:
    """Outputs of the model come as bytes from now on, since one is larger than its configuration says."""
    if codec.largest_output:  # the first of the calls that were under way
        log.warning(
            "model %r: its outputs cannot use shared memory: %s", model, refusals.read(answer.status, answer.body)[1]
        )
    codec.forget_sizes()


def refusal(model: str, status: int, body: bytes) -> ListenerError:
    """Triton's own 4xx is about the caller's tensors; what it says of itself stays inside."""
    status, text = refusals.read(status, body)
    if status == 503:
        return _noted(Unavailable(f"model {model!r} cannot take the request now"), text)
    if status >= 500:
        return _noted(TritonFailed(f"model {model!r} failed in Triton"), text)
    return BadRequest(f"model {model!r}: {text}")


def _noted(error: ListenerError, text: str) -> ListenerError:
    """With what Triton said, for the log alone."""
    error.add_note(text)
    return error
