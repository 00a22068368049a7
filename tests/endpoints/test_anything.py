"""Whatever a client sends: an answer in the one form, and never a failure of the listener's own."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import numpy as np
import orjson
import pytest

from tests.endpoints.caller import Caller, calling
from tests.endpoints.conftest import Serve


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def entry(**more: Any) -> dict[str, Any]:
    return {"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [1, 2], **more}


VENDOR = "application/vnd.vertex-ai-triton.binary+json;json-header-size="
METHODS = ["POST"] * 60 + ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]
MODELS = [
    "twice",
    "plain",
    "telling",
    "talk",
    "pair",
    "whole",
    "matrix",
    "text",
    "media",
    "once",
    "no",
    "a%20b%25%C3%A4",
]
ENDS = ["", ":predict", "/ready", "/config", "/stats", "/infer", "/generate", "/generate_stream"]
PATHS = [
    *["/predict"] * 400,
    *("/", "/openapi.json", "/health", "/v1/models", "/v2", "/v2/models/stats", "/v2/repository/index", "/nowhere"),
    *(
        f"/{v}/models/{m}{n}{e}"
        for v in ("v1", "v2")
        for m in MODELS
        for n in ("", "/versions/2", "/versions/x")
        for e in ENDS
    ),
    *("/v2/models/%2e%2e", "/v1/models/%00:predict", "/v2/models/%FF/infer", "//", "/predict?x=%FF", "/v2/models/{x}"),
]
TYPES = [
    *["application/json"] * 40,
    *("", "application/x-npy", "application/octet-stream", "image/png", "text/plain", "nonsense", ";", ", ,"),
    *(f"{VENDOR}{n}" for n in ("0", "10", "300", "-1", "x", "4294967296")),
]
ACCEPTS = (
    ["*/*"] * 4
    + ["text/event-stream"] * 3
    + ["application/x-npy", "application/json", "", ",;,", "text/event-stream;q=0"]
)
LENGTHS = [*[""] * 60, "0", "2", "60", "9999", "-1", "x", "4294967296", "0x1"]
REDIRECTS = [
    *[""] * 40,
    "v2",
    "metrics",
    "v2/models/twice/infer",
    "v2/models/twice",
    "v2/logging",
    "v2/repository/models/m/load",
]
CODINGS = [*[""] * 30, "gzip", "deflate", "br", "identity", "x"]
PARAMETERS: list[Any] = [
    *[{}] * 3,
    *(None, 5, [], {"model": "talk"}, {"model": "telling"}, {"model": "pair"}, {"model": "whole"}, {"model": 5}),
    *({"version": 2}, {"version": -1}, {"version": {}}, {"top_k": 2}, {"top_k": "x"}, {"model": "no"}, {"x": [[[]]]}),
]
VALUES: list[Any] = [
    *(
        [1, 2],
        [[1, 2]],
        [],
        {},
        None,
        1,
        -1.5,
        1e300,
        2**70,
        "text",
        "NaN",
        True,
        [None],
        [[1], [1, 2]],
        {"b64": "AAE="},
    ),
    *(
        {"b64": "A"},
        {"b64": 5},
        {"b64": "AAAAAAAAAAA=", "x": 1},
        {"X": [1, 2]},
        {"A": [1], "B": [2]},
        {"A": {"b64": ""}},
    ),
    *(
        ["a", "bug"],
        ["bad", "a"],
        ["a", "unsayable"],
        "one two",
        "one fail",
        "fail",
        [["a"]],
        {"X": {"Y": {"b64": "/w=="}}},
    ),
    *({"": ""}, "\u0000", "\ud7ff", [[[[[[]]]]]], [1, "a"], [True, 1], [{"b64": "AAE="}, 1], {"X": None}, entry()),
]


def document(chance: random.Random) -> Any:
    """Some JSON that looks more or less like a request."""
    some = [chance.choice(VALUES) for _ in range(chance.choice([1, 1, 1, 2, 3, 0]))]
    inputs: Any = [entry(), entry(shape=[0, 2]), entry(data=None), entry(parameters={"shared_memory_region": "r"})]
    said: dict[str, Any] = chance.choice(
        [
            *[{"instances": some}] * 6,
            {"instances": chance.choice(VALUES)},
            {"inputs": chance.choice(VALUES)},
            {"inputs": {"A": some, "B": [1, 2]}},
            {"inputs": [chance.choice(inputs)]},
            {"inputs": [entry()], "outputs": [{"name": "Y", "parameters": {"classification": 1}}]},
            {"X": chance.choice(VALUES)},
            {"instances": some, "inputs": some},
            {},
        ]
    )
    if chance.random() < 0.5:
        said = {**said, "parameters": chance.choice(PARAMETERS)}
    return said


def body(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.1:
        array = np.ones(
            chance.choice([(1, 2), (2,), (3, 2), (2, 0), ()]), chance.choice(["f4", ">f8", "S2", "U1", "i1", "c8"])
        )
        return damaged(saved(array), chance)
    if kind < 0.15:
        return chance.randbytes(chance.choice([0, 1, 8, 100]))
    if kind < 0.2:
        return b"[" * 500 + b"]" * 500
    made = json.dumps(document(chance)).encode()
    return damaged(made, chance)


def damaged(made: bytes, chance: random.Random) -> bytes:
    """Mostly as it was."""
    if chance.random() < 0.8 or not made:
        return made
    at = chance.randrange(len(made))
    piece = chance.choice([b"", b'"', b"\\", b"\\u0041", b"]", b"\xff", b"\0", b"9"])
    return made[:at] + piece + made[at + chance.randrange(3) :]


def request(chance: random.Random) -> bytes:
    method, content = chance.choice(METHODS), body(chance)
    lines = [
        f"{method} {chance.choice(PATHS)} HTTP/1.1",
        "Host: x",
        "X-Request-Id: me",
        f"Content-Length: {len(content)}",
    ]
    for name, choices in (
        ("Content-Type", TYPES),
        ("Accept", ACCEPTS),
        ("Inference-Header-Content-Length", LENGTHS),
        ("X-Vertex-Ai-Triton-Redirect", REDIRECTS),
        ("Content-Encoding", CODINGS),
        ("Accept-Encoding", CODINGS),
    ):
        if value := chance.choice(choices):
            lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode() + content


async def body_of(caller: Caller, sent: bytes) -> bytes:
    """That of the answer whose head has been read."""
    if sent.startswith(b"HEAD") or caller.status == 204:
        return b""
    if caller.headers.get("transfer-encoding") == "chunked":
        return await caller.pieces()
    if "content-length" not in caller.headers:
        return await caller.rest()
    return await caller.reader.readexactly(int(caller.headers["content-length"]))


@pytest.mark.parametrize("seed", range(4))
async def test_no_request_makes_the_listener_fail(serve: Serve, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    chance, seen, by_whom = random.Random(seed), set[int](), set[str]()
    async with serve(max_body=3000, compress_from=10) as served:
        for _ in range(400):
            sent = request(chance)
            async with calling(served.port) as caller:
                await caller.send(sent)
                rest = await body_of(caller, sent)
            seen.add(caller.status)
            by_whom.add(caller.headers.get("server", "")[:6])
            assert b"the listener failed" not in rest, sent
            assert caller.headers["x-request-id"], sent
            if caller.status >= 400 and not sent.startswith(b"HEAD"):
                assert caller.headers["content-type"] == "application/json", sent
                said = orjson.loads(rest)
                assert said.keys() == {"error"}, sent
                assert 0 < len(said["error"]) <= 500, sent
        assert served.listener.gate.inside == 0
    assert {200, 400, 404, 405} <= seen
    assert len(by_whom) == 2  # aiohttp, and the fast path, which does not say its name
    traces = [record for record in caplog.records if record.exc_info and record.name != "listener.handler"]
    assert traces == []
