"""The client against a server that answers what a broken or restarting Triton might."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import numpy as np
import pytest

from listener.errors import BadRequest, DeadlineExceeded, TritonFailed, Unavailable
from listener.tensors import ModelSpec, TensorSpec
from listener.testing import FakeModel, FakeTriton
from listener.triton.client import TritonClient
from listener.triton.model import Model

SPEC = ModelSpec("m", (TensorSpec("X", "FP32", (2,)),), (TensorSpec("Y", "FP32", (2,)),), 8)
ROW = {"X": np.ones((1, 2), np.float32)}


@contextlib.asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[TritonClient]:
    """A client of a server that sends these bytes to everybody, and then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, opened(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        yield client


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[TritonClient]:
    client = TritonClient(url)
    await client.open()
    try:
        yield client
    finally:
        await client.close()


def http(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


HEADER = b'{"outputs":[{"name":"Y","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]}'
LENGTH = f"Inference-Header-Content-Length: {len(HEADER)}"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", Unavailable),
        (b"HTTP/1.1 200", Unavailable),
        (http(200, b"x")[:-1], Unavailable),
        (http(200, b"not json"), TritonFailed),
        (http(200, b"{}"), TritonFailed),
        (http(200, HEADER + b"\0" * 3, LENGTH), TritonFailed),
        (http(200, HEADER, "Inference-Header-Content-Length: x"), TritonFailed),
        (http(500, b'{"error":"secret"}'), TritonFailed),
        (http(500, b"<html>"), TritonFailed),
        (http(503, b""), Unavailable),
        (http(400, b'{"error":"secret"}'), Unavailable),  # and nobody there to say that the model is ready
    ],
    ids=[
        "hangs up",
        "half a line",
        "half a body",
        "no JSON",
        "no outputs",
        "half a tensor",
        "bad length",
        "500",
        "HTML",
        "503",
        "400",
    ],
)
async def test_each_kind_of_answer_is_an_error_of_ours(reply: bytes, error: type[Exception]) -> None:
    async with answering(reply) as client:
        with pytest.raises(error) as raised:
            await client.infer("m", client.codec(SPEC), [ROW])
    assert "secret" not in str(raised.value)
    assert "<html>" not in str(raised.value)


async def test_a_right_answer_is_read() -> None:
    async with answering(http(200, HEADER + np.array([3, 4], "<f4").tobytes(), LENGTH)) as client:
        outputs = await client.infer("m", client.codec(SPEC), [ROW])
    np.testing.assert_array_equal(outputs["Y"], [[3, 4]])


@pytest.mark.parametrize(("ready", "error"), [(True, BadRequest), (False, Unavailable)])
async def test_a_refusal_is_the_callers_fault_only_if_the_model_is_ready(ready: bool, error: type[Exception]) -> None:
    model = FakeModel({"X": ("FP32", [2])}, {"Y": ("FP32", [2])}, lambda inputs: inputs, ready=ready)
    fake = FakeTriton({"m": model}, fail_with=400)
    async with fake.running() as url, opened(url) as client:
        with pytest.raises(error):
            await client.infer("m", client.codec(SPEC), [ROW])


async def test_nobody_there() -> None:
    async with opened("http://127.0.0.1:1") as client:
        assert await client.server_ready() is False
        assert await client.model_ready("m") is False
        with pytest.raises(Unavailable):
            await client.spec("m")
        with pytest.raises(Unavailable):
            await client.infer("m", client.codec(SPEC), [ROW])


async def test_silence_ends_when_the_time_is_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, opened(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        model = Model("m", client)
        model.know(SPEC)
        with pytest.raises(DeadlineExceeded):
            await model.infer(ROW, timeout=0.1)


async def test_a_model_that_triton_does_not_have() -> None:
    async with FakeTriton().running() as url, opened(url) as client:
        with pytest.raises(Unavailable):
            await client.spec("m")


async def test_bytes_go_both_ways() -> None:
    model = FakeModel({"X": ("BYTES", [2])}, {"Y": ("BYTES", [2])}, lambda inputs: {"Y": inputs["X"][:, ::-1]})
    async with FakeTriton({"m": model}).running() as url, opened(url) as client:
        spec = await client.spec("m")
        outputs = await client.infer(
            "m", client.codec(spec), [{"X": np.array([[b"a", b"\xff\x00"]], dtype=np.object_)}]
        )
    assert outputs["Y"].tolist() == [[b"\xff\x00", b"a"]]


async def test_bf16_goes_both_ways() -> None:
    model = FakeModel({"X": ("BF16", [2])}, {"Y": ("BF16", [2])}, lambda inputs: {"Y": inputs["X"] * 2})
    async with FakeTriton({"m": model}).running() as url, opened(url) as client:
        codec = client.codec(await client.spec("m"))
        outputs = await client.infer("m", codec, [{"X": np.array([[1.5, 0.1]], np.float32)}])
    np.testing.assert_array_equal(outputs["Y"], np.array([[3, 0.2001953125]], np.float32))


async def test_classes_come_as_texts() -> None:
    model = FakeModel(
        {"X": ("FP32", [2])}, {"Y": ("FP32", [2])}, lambda inputs: {"Y": inputs["X"]}, labels={"Y": ["a", "b:c"]}
    )
    async with FakeTriton({"m": model}).running() as url, opened(url) as client:
        codec = client.codec(await client.spec("m"), top_k=2)
        outputs = await client.infer("m", codec, [{"X": np.array([[1, 2]], np.float32)}])
    assert outputs["Y"].tolist() == [[b"2.000000:1:b:c", b"1.000000:0:a"]]


async def test_what_a_configuration_says_of_tensors() -> None:
    model = FakeModel(
        {"A": ("FP32", [-1]), "B": ("BYTES", [1])},
        {"Y": ("FP32", [2]), "Z": ("INT8", [1])},
        lambda inputs: inputs,
        labels={"Y": ["a", "b"]},
        optional=["B"],
        ragged=["A"],
        pad="0",
    )
    async with FakeTriton({"m": model}).running() as url, opened(url) as client:
        assert await client.spec("m") == ModelSpec(
            "m",
            (TensorSpec("A", "FP32", (-1,), ragged=True), TensorSpec("B", "BYTES", (1,), optional=True)),
            (TensorSpec("Y", "FP32", (2,), labelled=True), TensorSpec("Z", "INT8", (1,))),
            64,
            pad="0",
        )


async def test_a_parameter_that_cannot_be_followed_is_said() -> None:
    model = FakeModel({"X": ("FP32", [-1])}, {"Y": ("FP32", [-1])}, lambda inputs: inputs, pad="x")
    async with FakeTriton({"m": model}).running() as url, opened(url) as client:
        with pytest.raises(Unavailable) as raised:
            await client.spec("m")
    assert raised.value.message == (
        "model 'm' cannot be served: the parameter listener_pad is 'x', which cannot fill up input 'X', which is FP32"
    )
