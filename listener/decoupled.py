"""Models that answer a request in any number of responses, which Triton gives through its generate extension alone.

Served without a handler: an instance's prediction is the list of its responses, or, where the client takes events, each
response is one as it comes. docs/reference/contract.md, "Streaming".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import orjson

from listener.at_once import at_once
from listener.call import Call, Context, Json, Reply
from listener.errors import BadRequest, InstanceError, InstancesFailed, TritonFailed
from listener.tensors import ModelSpec
from listener.triton.client import refusal
from listener.triton.events import Events
from listener.triton.paths import generate_path
from listener.triton.relay import Relay

#: Triton's own JSON reader stops here too.
_MAX_DEPTH = 100
#: Instances of one request that are with Triton at a time; each has a connection of its own.
_AT_ONCE = 8
#: Seconds for which bodies are written before others have their turn on the loop.
_TURN = 0.002
#: What `parameters` says to the listener, and not to the model.
CHOICE = frozenset({"model", "version", "top_k"})


class Raw(NamedTuple):
    """Triton's own events, byte for byte, as they come: several at once, or a part of one."""

    data: bytes


#: Of an answer that comes in pieces: what one event says, or Triton's words.
Piece: TypeAlias = Json | Raw


def generate_body(call: Call, index: int, spec: ModelSpec) -> bytes:
    """One instance as the generate extension has it: inputs by name, and parameters beside them.

    Args:
        call: a plain one.
        index: of the instance.
        spec: of the model.

    Raises:
        InstanceError: an input that the model does not have, or bytes that JSON has no word for.
        BadRequest: the parameters are nested too deeply.
    """
    instance = call.instances[index]
    if not isinstance(instance, dict):
        if spec.only_input is None:
            raise InstanceError(f"is not an object; model {spec.name!r} has several inputs", index)
        instance = {spec.only_input.name: instance}
    if unknown := sorted(instance.keys() - {tensor.name for tensor in spec.inputs}):
        raise InstanceError(f"unknown input {unknown[0]!r} of model {spec.name!r}", index)
    said: dict[str, Json] = {name: _as_text(value, name, index, 0) for name, value in instance.items()}
    return _written({**said, "parameters": without_choice(call.context.parameters)})


def without_choice(parameters: Mapping[str, Json]) -> dict[str, Json]:
    """Parameters as the model gets them."""
    return {name: value for name, value in parameters.items() if name not in CHOICE}


def _as_text(value: Json, name: str, index: int, depth: int) -> Json:
    """An input with text wherever there are bytes, and lists in place of an array."""
    if depth > _MAX_DEPTH:
        raise InstanceError(f"input {name!r} is nested deeper than {_MAX_DEPTH} levels", index)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [_as_text(item, name, index, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _as_text(item, name, index, depth + 1) for key, item in value.items()}
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InstanceError(f"input {name!r} is no UTF-8, which this model's requests have to be", index) from None


def _written(said: Mapping[str, Json]) -> bytes:
    try:
        return orjson.dumps(said)
    except TypeError as error:  # it reads more levels than it writes
        raise BadRequest(f"the request cannot be passed on: {error}") from None


async def collect(relay: Relay, call: Call, spec: ModelSpec) -> Reply:
    """A prediction for each instance: the list of its responses; a response is the only output, or outputs by name.

    Raises:
        InstanceError: as `generate_body`.
        InstancesFailed: in its place, of all that are wrong, if they fail alone.
        BadRequest, Unavailable, TritonFailed: as Triton answers.
    """
    call = call.plain()
    asked = [partial(_responses, relay, call.context, spec, body) for body in await _bodies(call, spec)]
    return Reply(await at_once(asked, _AT_ONCE))


async def _bodies(call: Call, spec: ModelSpec) -> list[bytes]:
    """The request to Triton of each instance; raises as `collect`."""
    made, wrong = [], []
    turn = time.monotonic() + _TURN
    for index in range(len(call.instances)):
        if time.monotonic() > turn:
            await asyncio.sleep(0)
            turn = time.monotonic() + _TURN
        try:
            made.append(generate_body(call, index, spec))
        except InstanceError as error:
            if not call.alone:
                raise
            wrong.append(error)
    if wrong:
        raise InstancesFailed(str(wrong[0]), wrong)
    return made


async def _responses(relay: Relay, context: Context, spec: ModelSpec, body: bytes) -> list[Json]:
    events, found = Events(), list[Json]()
    try:
        async with relay.stream(generate_path(spec.name, context.version), body) as stream:
            if stream.status != 200:
                raise refusal(spec.name, stream.status, await stream.whole())
            async for piece in stream.pieces:
                found += [_outputs(event, spec) for event in events.feed(piece)]
    except (BadRequest, TritonFailed) as error:
        error.of_rows = spec.independent
        raise
    return found


async def events(relay: Relay, call: Call, spec: ModelSpec) -> AsyncGenerator[Raw, None]:
    """Triton's events for one instance; raises as `collect`, before the first one."""
    body = generate_body(only_one(call), 0, spec)
    async with relay.stream(generate_path(spec.name, call.context.version), body) as stream:
        if stream.status != 200:
            raise refusal(spec.name, stream.status, await stream.whole())
        async for piece in stream.pieces:
            yield Raw(piece)


def _outputs(event: dict[str, Any], spec: ModelSpec) -> Json:
    outputs = {tensor.name: event[tensor.name] for tensor in spec.outputs if tensor.name in event}
    if "error" in event and "error" not in outputs:
        failed = TritonFailed(f"model {spec.name!r} failed in the middle of its answer")
        failed.add_note(str(event["error"]))
        raise failed
    return next(iter(outputs.values())) if len(spec.outputs) == 1 and len(outputs) == 1 else outputs


def only_one(call: Call) -> Call:
    """The call, plain, whose answer can be a stream.

    Raises:
        BadRequest: it has several instances.
    """
    if len(call.instances) != 1:
        raise BadRequest(f"a stream answers one instance, and the request has {len(call.instances)}")
    return call.plain()


def passed_on(said: Mapping[str, Json]) -> bytes:
    """A body of the generate extension as the model gets it: without the choice of a model.

    Raises:
        BadRequest: it is nested too deeply.
    """
    parameters = said.get("parameters")
    return _written({**said, "parameters": without_choice(parameters)} if isinstance(parameters, dict) else said)
