"""A model as a handler sees it: named arrays in, named arrays out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from listener.at_once import at_once
from listener.call import Arrays
from listener.errors import DeadlineExceeded, TritonFailed, Unavailable
from listener.metrics.times import CURRENT
from listener.rows import row_count, rows_of, singles, stack
from listener.tensors import ModelSpec, TensorError, TensorSpec, as_array, cast, fits
from listener.triton.asking import seconds_of, version_of
from listener.triton.client import TritonClient
from listener.triton.coalesce import BLAMED, Coalescer
from listener.triton.codec import Codec
from listener.triton.flight import Flight
from listener.triton.split import join, parts

Tensors = dict[str, NDArray[Any]]
#: Whether Triton has a version.
HasVersion = Callable[[str], Awaitable[bool]]

#: Parts of one request that are with Triton at a time, so that a large one does not keep all others out.
_AT_ONCE = 8
#: Bytes of an input from which on a request is not joined with others: what a call costs is nothing beside them, and
#: they would have to be copied together.
_ALONE = 1 << 20
#: Encoders kept for different numbers of classes; the oldest goes first.
_CODECS = 16


class _Asked(NamedTuple):
    """One request's inputs, for which the best classes of labelled outputs are wanted."""

    arrays: Arrays
    top_k: int


class Model:
    """One model of the repository. Requests that wait for it together travel together (`coalesce.py`).

    Args:
        name: its name.
        client: of its Triton.
        coalesce: whether requests may share a call.
        version: digits; "" = the one that Triton chooses.
        has_version: asks Triton for another one; None = each is taken to be there.

    Attributes:
        name: its name.
    """

    def __init__(
        self,
        name: str,
        client: TritonClient,
        coalesce: bool = True,
        version: str = "",
        has_version: HasVersion | None = None,
    ) -> None:
        self.name = name
        self._client, self._coalesce, self._version = client, coalesce, version
        self._has_version = has_version
        self._refusal = ""  # why calls are refused; "" = they are not
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that calls belong on
        self._others: dict[str, Model] = {}  # other versions, by number
        self._spec: ModelSpec | None = None
        self._codec: Codec
        self._half: int
        self._classifying: dict[int, Codec] = {}  # by the number of classes
        self._coalescer: Coalescer[Arrays | _Asked, Tensors] | None = None

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives.

        Raises:
            Unavailable: it has not been read from Triton yet.
        """
        if self._spec is None:
            raise Unavailable(f"model {self.name!r} is not ready")
        return self._spec

    def at(self, version: str) -> Model:
        """One version of it, which the caller knows to be there; "" is this one.

        All versions of a model have one configuration.
        """
        if version == self._version:
            return self
        found = self._others.get(version)
        if found is None:
            found = self._others[version] = Model(self.name, self._client, self._coalesce, version, self._has_version)
            found._loop, found._refusal = self._loop, self._refusal
            found.know(self.spec)
        return found

    async def lacks(self, version: str = "") -> str | None:
        """Why the model, or a version, cannot be called, as the rest of a sentence; None if it can. Never raises."""
        if await self._client.model_ready(self.name, version):
            return None
        try:
            known = self.name in await self._client.index()
        except Unavailable:
            known = True
        if not known:
            return "is not in the repository"
        return f"has no version {version} that is ready" if version else "is not ready"

    async def read_spec(self) -> None:
        """Reads the configuration anew, as after a restart of Triton; then calls are taken again.

        Raises:
            Unavailable: Triton does not answer.
        """
        self._loop = asyncio.get_running_loop()
        self.know(await self._client.spec(self.name))
        self.refuse("")

    def refuse(self, sentence: str) -> None:
        """Refuses what is queued and what comes, all versions, until the configuration is read again.

        Calls under way come to their end.

        Args:
            sentence: why; "" = calls are taken again.
        """
        self._refusal = sentence
        if sentence and self._coalescer:
            self._coalescer.refuse(sentence)
        for other in self._others.values():
            other.refuse(sentence)

    def know(self, spec: ModelSpec) -> None:
        """Takes the configuration from now on; what waits for the model as it was is refused."""
        if spec == self._spec:
            return
        if self._coalescer:
            self._coalescer.close()
        self._spec, self._codec, self._classifying = spec, self._client.codec(spec, self._version), {}
        for other in self._others.values():
            other.know(spec)
        self._half = spec.max_batch_size // 2
        shares = self._coalesce and spec.independent and spec.max_batch_size > 1
        self._coalescer = Coalescer(self._call, spec.max_batch_size, Flight()) if shares else None

    async def infer(
        self, arrays: Arrays, *, version: str | int = "", timeout: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Runs the model on a batch; more rows than it takes at a time go out in parts, side by side.

        Args:
            arrays: inputs by name, all with the same leading batch dimension N >= 1. A dtype of the same kind is cast
                to the model's.
            version: a number or its digits; "" = Triton chooses.
            timeout: seconds for this call alone, after which it is cancelled; None = as long as the request has.

        Returns:
            Outputs by name, each with leading dimension N, in the order of the rows. BYTES come as object arrays of
            `bytes`, BF16 as FP32. Arrays may be read-only.

        Raises:
            TensorError: a name, shape or dtype is not the model's, the batch dimensions differ, or the outputs of the
                parts do; `infer_rows` takes these.
            ValueError: `version` or `timeout` is none.
            DeadlineExceeded: the call took longer than `timeout`.
            Unavailable: Triton has no such version, has the model not ready, or cannot be reached.
            ListenerError: else as `TritonClient.infer`.
            RuntimeError: it is called on another event loop than the listener's.
        """
        replies = await self.infer_parts(arrays, version=version, timeout=timeout)
        try:
            return stack(replies) if self.spec.max_batch_size == 0 else join(replies)
        except ValueError:
            raise TensorError(f"the outputs of model {self.name!r} differ in shape and cannot be one batch") from None

    async def infer_rows(
        self, arrays: Arrays, *, version: str | int = "", timeout: float | None = None
    ) -> list[dict[str, NDArray[Any]]]:
        """As `infer`, but gives the outputs of each row, without batch dimension; their shapes may differ."""
        return rows_of(await self.infer_parts(arrays, version=version, timeout=timeout), self.spec)

    async def infer_parts(
        self, arrays: Arrays, *, version: str | int = "", timeout: float | None = None
    ) -> list[Tensors]:
        """As `infer`, but gives the answers to each part, or to each row of a model without batching."""
        if self._loop not in (None, asyncio.get_running_loop()):
            raise RuntimeError(
                f"model {self.name!r} is called on another event loop than the listener's; make the hook `async def` "
                "and await the call in it"
            )
        if version == "" and timeout is None:
            return (await self.infer_batches([arrays]))[0]
        wanted, seconds = version_of(version), seconds_of(timeout)
        try:
            async with asyncio.timeout(seconds) as scope:
                model = await self._of_version(wanted) if wanted else self
                return (await model.infer_batches([arrays]))[0]
        except TimeoutError:
            if not scope.expired():
                raise
            raise DeadlineExceeded(f"model {self.name!r} took longer than its {seconds:g} s") from None

    async def _of_version(self, version: str) -> Model:
        """That version of it, which Triton has."""
        if version != self._version and self._has_version and not await self._has_version(version):
            raise Unavailable(f"model {self.name!r} has no version {version}")
        return self.at(version)

    async def infer_batches(self, batches: Sequence[Arrays], top_k: int = 0) -> list[list[Tensors]]:
        """As `infer_parts` for several batches, which may differ in shapes and in optional inputs.

        Whoever waits bounds the time.

        Args:
            batches: each as `infer` takes it.
            top_k: so many classes are wanted in place of each of `ModelSpec.classified`, as BYTES that say
                `score:index[:label]`. 0 = none are.
        """
        checked = [_checked(arrays, self.spec) for arrays in batches]
        if len(checked) == 1:
            return [await self.infer_checked(checked[0], top_k)]
        calls = [self._calls(arrays, self.spec.max_batch_size, top_k) for arrays in checked]
        answers = iter(await at_once([call for each in calls for call in each], _AT_ONCE))
        return [[next(answers) for _ in each] for each in calls]

    async def infer_checked(self, arrays: Tensors, top_k: int = 0) -> list[Tensors]:
        """As `infer_parts`, for inputs that are known to be the model's; whoever waits bounds the time."""
        rows, size = row_count(arrays), self.spec.max_batch_size
        if 0 < rows <= size:
            return [await self._one(arrays, rows, top_k)]
        return await at_once(self._calls(arrays, size, top_k), _AT_ONCE)

    def _calls(self, arrays: Tensors, size: int, top_k: int) -> list[Callable[[], Awaitable[Tensors]]]:
        """What one batch needs of calls of so many rows, in the order of its rows."""
        pieces = parts(arrays, size) if size else singles(arrays)
        return [partial(self._one, piece, row_count(piece) if size else 1, top_k) for piece in pieces]

    async def _one(self, arrays: Arrays, rows: int, top_k: int) -> Tensors:
        if self._refusal:
            raise Unavailable(self._refusal)
        item = _Asked(arrays, top_k) if top_k else arrays
        # two requests of more than half a call would not fit into one
        if self._coalescer is None or rows > self._half or _is_large(arrays):
            begun = monotonic()
            outputs = (await self._call([item]))[0]
            if times := CURRENT.get():
                times.call(begun, begun, monotonic())
            return outputs
        return await self._coalescer.infer((_alike(arrays), top_k) if top_k else _alike(arrays), item, rows)

    async def _call(self, items: Sequence[Arrays | _Asked]) -> list[Tensors]:
        """One call to Triton for some requests, which want the same number of classes; the outputs of each."""
        groups: Sequence[Any] = items
        codec = self._codec
        if isinstance(items[0], _Asked):
            codec = self._codec_for(items[0].top_k)
            groups = [item.arrays for item in items if isinstance(item, _Asked)]
        try:
            outputs = await self._client.infer(self.name, codec, groups)
        except BLAMED as error:
            error.of_rows = self.spec.independent
            raise
        if self.spec.max_batch_size == 0:
            if self._client.meter:
                self._client.meter.call(self.name, 1, 1)
            return [outputs]
        if not outputs:
            raise TritonFailed(f"model {self.name!r} answered without any output")
        counts = [row_count(group) for group in groups]
        total = sum(counts)
        for output in outputs.values():
            if output.shape[:1] != (total,):
                raise TritonFailed(f"model {self.name!r} answered with another number of rows than it was sent")
        if self._client.meter:
            self._client.meter.call(self.name, len(counts), total)
        return [outputs] if len(counts) == 1 else _apart(outputs, counts)

    def _codec_for(self, top_k: int) -> Codec:
        codec = self._classifying.get(top_k)
        if codec is None:
            while len(self._classifying) >= _CODECS:
                del self._classifying[next(iter(self._classifying))]
            codec = self._classifying[top_k] = self._client.codec(self.spec, self._version, top_k)
        return codec


def _is_large(arrays: Arrays) -> bool:
    for array in arrays.values():  # noqa: SIM110 - any() takes three times as long, for each request
        if array.nbytes >= _ALONE:
            return True
    return False


def _alike(arrays: Arrays) -> Hashable:
    """What requests that share a call have in common."""
    return tuple([(name, array.dtype.char, array.shape[1:]) for name, array in arrays.items()])


def _apart(outputs: Tensors, counts: Sequence[int]) -> list[Tensors]:
    made, start = [], 0
    for count in counts:
        end = start + count
        made.append({name: array[start:end] for name, array in outputs.items()})
        start = end
    return made


def _checked(arrays: Arrays, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    known = {tensor.name: tensor for tensor in spec.inputs}
    if unknown := sorted(arrays.keys() - known.keys()):
        raise TensorError(f"model {spec.name!r} has no input {unknown[0]!r}; it takes {', '.join(map(repr, known))}")
    if absent := [t.name for t in spec.inputs if t.name not in arrays and not t.optional]:
        raise TensorError(f"model {spec.name!r} misses its input {absent[0]!r}")
    checked = {name: _as_tensor(array, known[name]) for name, array in arrays.items()}
    if not checked and spec.max_batch_size == 0:
        return checked
    if len({array.shape[0] for array in checked.values()}) != 1 or row_count(checked) == 0:
        raise TensorError(f"the inputs of model {spec.name!r} do not share one batch dimension of at least 1")
    return checked


def _as_tensor(array: Any, tensor: TensorSpec) -> NDArray[Any]:
    array = cast(as_array(array), tensor)
    if array.ndim == 0 or not fits(array.shape[1:], tensor.shape):
        raise TensorError(
            f"input {tensor.name!r} has shape {list(array.shape)}, the model takes {['batch', *tensor.shape]}"
        )
    return np.ascontiguousarray(array)
