"""`python -m benchmarks.steps`: what a small prediction costs inside the listener, step by step.

The real objects of a worker, from a connection's bytes to its answer; only the sockets and Triton are left out: a
transport that takes the answer, and a wire that has it ready. So these are the listener's own microseconds, warm and
undisturbed. How they relate to those of a whole system: benchmarks/profile.md.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import click
import orjson
import uvloop

from benchmarks import loads
from benchmarks.report import table
from listener import middleware
from listener.access import AccessLog
from listener.call import Context, Reply
from listener.contract import instances
from listener.endpoints.predict import Predict
from listener.fastpath import FastPath
from listener.gate import Gate, Limits, Phase
from listener.graph.router import Router
from listener.graph.step import Step
from listener.handler import Handler
from listener.pool import Pool
from listener.rows import from_instances
from listener.tensors import ModelSpec, TensorSpec
from listener.triton.answers import Answer
from listener.triton.catalogue import Catalogue
from listener.triton.client import TritonClient
from listener.triton.codec import Codec
from listener.triton.model import Model
from listener.triton.relay import Relay
from listener.worker import spare_the_collector

LOADS = ("W1", "W4")
CONNECTIONS = (1, 32)
_SPEC = ModelSpec("affine", (TensorSpec("X", "FP32", (16,)),), (TensorSpec("Y", "FP32", (16,)),), 64)
_TENSOR = _SPEC.inputs[0]
_BEST_OF = 5


class Echo:
    """In place of the wire: answers at once with the tensor that it was sent."""

    async def send(self, head: bytes, parts: Sequence[bytes | memoryview] = (), twice: bool = True) -> Answer:
        await asyncio.sleep(0)
        return answer(b"".join(parts))


class Sink(asyncio.Transport):
    """In place of a socket: says that an answer has been written."""

    def __init__(self, written: Callable[[bytes], None]) -> None:
        super().__init__()
        self._written = written

    def write(self, data: Any) -> None:
        self._written(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


def answer(outputs: bytes) -> Answer:
    """Triton's, with one binary output of so many rows of 16 numbers."""
    header = _header(len(outputs))
    return Answer(200, {"inference-header-content-length": str(len(header))}, header + outputs)


@functools.cache
def _header(size: int) -> bytes:
    entry = {"name": "Y", "datatype": "FP32", "shape": [size // 64, 16], "parameters": {"binary_data_size": size}}
    return orjson.dumps({"model_name": "affine", "model_version": "1", "outputs": [entry]})


def request(body: bytes) -> bytes:
    """As a client sends it."""
    return (
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


def path(client: TritonClient) -> FastPath:
    """Everything from the connection down to the client."""
    model = Model("affine", client)
    model.know(_SPEC)
    handler = Handler()
    handler.bind("affine", "affine", {"affine": model}, Pool(1))
    relay = Relay("http://127.0.0.1:1", "http://127.0.0.1:1")
    catalogue = Catalogue(client, lambda name: True, ())
    router = Router({"affine": Step("affine", handler, relay)}, "affine", catalogue, relay, Pool(1))
    serving: Any = SimpleNamespace(router=router)
    gate = Gate(Limits(4096), 60.0)
    gate.phase = Phase.READY
    return FastPath(
        Predict(gate, lambda: serving, 1 << 20, AccessLog(0)),
        "/predict",
        12 << 20,
        lambda gone: asyncio.Protocol(),
        lambda nbytes: None,
        4096,
    )


async def serve(bodies: Sequence[bytes], connections: int, count: int, seen: Callable[[bytes], object]) -> None:
    """So many requests over so many connections, each connection's next one as soon as it has an answer.

    Args:
        bodies: sent in turn.
        connections: at a time.
        count: requests in all, a multiple of `connections`.
        seen: is shown each answer.
    """
    loop = asyncio.get_running_loop()
    client = TritonClient("http://127.0.0.1:1")
    client._wire = Echo()  # type: ignore[assignment]
    fast, requests, left, end = path(client), [request(body) for body in bodies], count, loop.create_future()

    def connect() -> Callable[[], None]:
        def written(data: bytes) -> None:
            nonlocal left
            left -= 1
            seen(data)
            if left >= connections:
                loop.call_soon(connection.data_received, requests[left % len(requests)])
            elif left == 0:
                end.set_result(None)

        connection = fast()
        connection.connection_made(Sink(written))
        return lambda: connection.data_received(requests[0])

    for begin in [connect() for _ in range(connections)]:
        begin()
    await end
    for connection in list(fast.connections):
        connection.connection_lost(None)
    await fast.close()


def whole(load: str, connections: int, count: int) -> float:
    """CPU microseconds of a request, from the bytes that come to the bytes that go."""
    bodies = [body.data for body in loads.by_name(load).bodies("instances")]

    def once() -> float:
        begin = time.process_time()
        uvloop.run(serve(bodies, connections, count, len))
        return (time.process_time() - begin) / count * 1e6

    count -= count % connections
    return min(once() for _ in range(_BEST_OF))


def single(load: str, count: int) -> dict[str, float]:
    """Microseconds of each step that can be taken by itself."""
    body = loads.by_name(load).bodies("instances")[0].data
    head = request(body)[: -len(body)]
    codec, heads = Codec(_SPEC, "127.0.0.1:8000"), asyncio.run(_heads())
    call = instances.call(body)
    assert call is not None
    array = from_instances(call.instances, _TENSOR, call.booleans)
    assert array is not None
    said = answer(array.tobytes())
    length = said.headers["inference-header-content-length"]
    return {
        "read the head (known)": _time(lambda: heads.read(head), count),
        "make a request id": _time(lambda: middleware.request_id(""), count),
        "body to Call": _time(lambda: instances.call(body, Context("id", {}, deadline=1.0)), count),
        "instances to the tensor": _time(lambda: from_instances(call.instances, _TENSOR, call.booleans), count),
        "tensor to the call's bytes": _time(lambda: codec.request([{"X": array}]), count),
        "answer's bytes to arrays": _time(lambda: codec.response(said.body, length), count),
        "predictions to the body": _time(lambda: instances.encode(Reply(array)), count),
    }


async def _heads() -> Any:
    return path(TritonClient("http://127.0.0.1:1")).heads


def _time(step: Callable[[], object], count: int) -> float:
    def once() -> float:
        begin = time.perf_counter()
        for _ in range(count):
            step()
        return (time.perf_counter() - begin) / count * 1e6

    return min(once() for _ in range(_BEST_OF))


@click.command()
@click.option("--count", type=click.IntRange(100), default=5000, show_default=True, help="Requests for each figure.")
def main(count: int) -> None:
    """Prints the microseconds of each step, the best of five rounds."""
    spare_the_collector()
    steps = {load: single(load, count) for load in LOADS}
    rows = [(step, *(f"{steps[load][step]:.2f}" for load in LOADS)) for step in steps[LOADS[0]]]
    for connections in CONNECTIONS:
        figures = (f"{whole(load, connections, count):.0f}" for load in LOADS)
        rows.append((f"a whole request, {connections} at a time", *figures))
        gc.collect()
    click.echo(table(("us", *(f"{load}: {loads.by_name(load).title}" for load in LOADS)), rows))


if __name__ == "__main__":
    main()
