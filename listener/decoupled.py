"""Models that answer a request in any number of responses, which Triton gives through its generate extension alone.

Served without a handler: an instance's prediction is the list of its responses, or, where the client takes events, each
response is one as it comes. docs/reference/contract.md, "Streaming".
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any

import orjson

from listener.call import Call, Context, Json, Reply
from listener.errors import BadRequest, InstanceError, TritonFailed
from listener.handler import together
from listener.tensors import ModelSpec
from listener.triton.client import refusal
from listener.triton.events import Events
from listener.triton.relay import Relay, Stream

#: What Triton says in an event beside the outputs.
_BESIDE = frozenset({"model_name", "model_version", "id", "sequence_id", "sequence_start", "sequence_end"})
#: What `parameters` says to the listener, and not to the model.
CHOICE = frozenset({"model", "version", "top_k"})


def generate_path(model: str, version: str = "", stream: bool = True) -> str:
    """Triton's path of the generate extension."""
    which = f"/versions/{version}" if version else ""
    return f"/v2/models/{urllib.parse.quote(model, safe='')}{which}/generate{'_stream' if stream else ''}"


def generate_body(call: Call, index: int, spec: ModelSpec) -> bytes:
    """One instance as the generate extension has it: inputs by name, and parameters beside them.

    Raises:
        InstanceError: an input that the model does not have, or bytes that JSON has no word for.
    """
    instance = call.instances[index]
    if not isinstance(instance, dict):
        if spec.only_input is None:
            raise InstanceError(f"is not an object; model {spec.name!r} has several inputs", index)
        instance = {spec.only_input.name: instance}
    if unknown := sorted(instance.keys() - {tensor.name for tensor in spec.inputs}):
        raise InstanceError(f"unknown input {unknown[0]!r} of model {spec.name!r}", index)
    said: dict[str, Json] = {name: _as_text(value, name, index) for name, value in instance.items()}
    return orjson.dumps({**said, "parameters": without_choice(call.context.parameters)})


def without_choice(parameters: Mapping[str, Json]) -> dict[str, Json]:
    """Parameters as the model gets them."""
    return {name: value for name, value in parameters.items() if name not in CHOICE}


def _as_text(value: Json, name: str, index: int) -> Json:
    if isinstance(value, list):
        return [_as_text(item, name, index) for item in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InstanceError(f"input {name!r} is no UTF-8, which this model's requests have to be", index) from None


async def collect(relay: Relay, call: Call, spec: ModelSpec) -> Reply:
    """A prediction for each instance: the list of its responses; a response is the only output, or outputs by name.

    Raises:
        InstanceError: as `generate_body`.
        BadRequest, Unavailable, TritonFailed: as Triton answers.
    """
    bodies = [generate_body(call, index, spec) for index in range(len(call.instances))]
    return Reply(await together([_responses(relay, call.context, spec, body) for body in bodies]))


async def _responses(relay: Relay, context: Context, spec: ModelSpec, body: bytes) -> list[Json]:
    events, found = Events(), list[Json]()
    async with relay.stream(generate_path(spec.name, context.version), body) as stream:
        if stream.status != 200:
            raise refusal(spec.name, stream.status, await whole(stream))
        async for piece in stream.pieces:
            found += [_outputs(event, spec) for event in events.feed(piece)]
    return found


async def whole(stream: Stream) -> bytes:
    """All of its body."""
    return b"".join([piece async for piece in stream.pieces])


def _outputs(event: dict[str, Any], spec: ModelSpec) -> Json:
    if "error" in event:
        failed = TritonFailed(f"model {spec.name!r} failed in the middle of its answer")
        failed.add_note(str(event["error"]))
        raise failed
    outputs = {name: value for name, value in event.items() if name not in _BESIDE}
    return next(iter(outputs.values())) if len(spec.outputs) == 1 and len(outputs) == 1 else outputs


def only_one(call: Call) -> Call:
    """The call, whose answer can be a stream.

    Raises:
        BadRequest: it has several instances.
    """
    if len(call.instances) != 1:
        raise BadRequest(f"a stream answers one instance, and the request has {len(call.instances)}")
    return call


def passed_on(said: Mapping[str, Json]) -> bytes:
    """A body of the generate extension as the model gets it: without the choice of a model."""
    parameters = said.get("parameters")
    return orjson.dumps({**said, "parameters": without_choice(parameters)} if isinstance(parameters, dict) else said)
