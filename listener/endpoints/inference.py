"""An inference request that Triton answers itself, and Triton's answers as the client gets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from listener.contract import instances, media, oip
from listener.contract.answer import Answer
from listener.contract.compression import chosen
from listener.contract.media import JSON, RAW
from listener.errors import BadRequest
from listener.triton import refusals
from listener.triton.paths import model_path

if TYPE_CHECKING:
    from listener.endpoints.serving import Serving
    from listener.triton.wire import Answer as TritonAnswer

_HEADER_LENGTH = "Inference-Header-Content-Length"
#: Of Triton's answers.
_PASSED = {media.HEADER_LENGTH: _HEADER_LENGTH, "content-encoding": "Content-Encoding"}


async def infer(serving: Serving, model: str, version: str, request: oip.Infer, headers: Mapping[str, str]) -> Answer:
    """Triton's answer to an inference request.

    Args:
        serving: knows Triton and its models.
        model: its name there.
        version: digits; "" = Triton chooses.
        request: a checked one.
        headers: of the client, names in lower case; only what is known to be harmless goes on.

    Raises:
        BadRequest: it is one that Triton does not stand.
    """
    empty, classified = oip.has_no_rows(request), oip.classified(request)
    if empty or classified:
        await _refuse_what_ends_triton(serving, model, empty, classified)
    given = {"Content-Type": JSON if request.header_length is None else RAW}
    if request.header_length is not None:
        given[_HEADER_LENGTH] = str(request.header_length)
    if coding := chosen(headers.get("accept-encoding", "")):
        given["Accept-Encoding"] = coding
    return passed(await serving.relay.post(f"{model_path(model, version)}/infer", request.body, given))


async def _refuse_what_ends_triton(serving: Serving, model: str, empty: bool, classified: list[str]) -> None:
    """Triton 2.51 keeps a batch of no rows for ever, and dies of classes of BYTES."""
    found = await serving.catalogue.find(model)
    if found is None:
        return  # Triton will say so
    if empty and found.spec.max_batch_size:
        raise BadRequest(f"a tensor for model {model!r} has no rows: the first size of its shape is 0")
    for output in found.spec.outputs:
        if output.datatype == "BYTES" and output.name in classified:
            raise BadRequest(f"output {output.name!r} of model {model!r} is BYTES, of which there are no classes")


def passed(answer: TritonAnswer) -> Answer:
    """Triton's answer as it is; a refusal as `refused` has it."""
    if answer.status >= 400:
        return refused(answer.status, answer.body)
    headers = {_PASSED[name]: value for name, value in answer.headers.items() if name in _PASSED}
    return Answer(answer.body, answer.status, answer.headers.get("content-type", JSON), headers)


def generated(answer: TritonAnswer) -> Answer:
    """Triton's answer to `generate`; that a model answers several times is said there with status 200."""
    if answer.status == 200 and answer.body.startswith(b'{"error"'):
        return refused(400, answer.body)
    return passed(answer)


def refused(status: int, body: bytes) -> Answer:
    """Triton's refusal in our one form."""
    status, told = refusals.read(status, body)
    return Answer(instances.encode_message(told), status)
