"""A seeded fuzzer: malformed bodies, heads and framing, with right requests in between.

`python -m tests.contract.fuzz URL [--predict-route /predict] [--requests 100000] [--seed 1]` runs it against a listener
that serves the suite's repository (`models.py`), and prints what was answered. A mistake is a 5xx, an answer that is
none, no answer where the request was whole, or a right request that was not answered rightly.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import gzip
import io
import json
import random
import sys
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.contract.models import MODELS

#: Seconds in which a whole request is answered, and after which a client that sent half of one goes away.
_PATIENCE, _SHORT = 30.0, 0.02
_WORKERS = 16
#: One right request after so many others.
RIGHT_EVERY = 50
_RIGHT = (b'{"instances": [[1.5, -2.0]], "parameters": {"model": "identity_fp32"}}', b'{"predictions":[[1.5,-2.0]]}')
#: Models that are asked on purpose: not those that are made to be slow or to fail; nor those that take no infer request
#: at all, which Triton answers with 501.
_ASKED = [name for name, model in MODELS.items() if name not in ("slow", "failing") and "decoupled" not in model.more]

_TOKENS = [
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"true", b"-", b"1e999", b"NaN", b"Infinity", b"\\u0000"),
    *(b"\\ud800", b"\x00", b"\xff", b"\xc3\x28", b"\r\n", b"9" * 400, b'"instances":', b'{"b64":"', b'"parameters":'),
    *(b"0x1", b"1.", b"+1", b"[" * 200, b'{"a":' * 200, b"/*", b"'", b"\xef\xbb\xbf", b" " * 1000),
]
_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 3.5, 1e308, -1e308, 2**63, -(2**63) - 1, 2**64, 10**40, "", "x", "NaN", "Infinity"),
    *("-Infinity", "9223372036854775808", "\x00", "\ud7ff", "x" * 5000, [], {}, [[]], [{}], [[1], [1, 2]], [None]),
    *({"b64": ""}, {"b64": "AAAA"}, {"b64": "A"}, {"b64": 1}, {"b64": None}, {"b64": "AAAA", "x": 1}, {"": 1}),
    *([1] * 300, {"X": 1}, {"X": [1], "Y": [2]}, {"A": [1, 2, 3, 4], "B": [1, 2, 3, 4]}, [[[[[[1]]]]]], "\u0663"),
]
_VENDOR = "application/vnd.vertex-ai-triton.binary+json"
_HEADERS: dict[str, list[str]] = {
    "Content-Type": [
        *("application/json", "application/json; charset=utf-8", "text/plain", "image/png", "application/octet-stream"),
        *("application/x-npy", "multipart/form-data; boundary=x", "x", ";", "application/", "/", "*/*", "a" * 2000),
        *(
            f"application/vnd.vertex-ai-triton.binary+json;json-header-size={n}"
            for n in ("0", "-1", "7", "9" * 12, "x")
        ),
        *("application/vnd.vertex-ai-triton.binary+json", "text/x;application/vnd.vertex-ai-triton.binary+json"),
    ],
    "Inference-Header-Content-Length": [
        "0",
        "1",
        "17",
        "-1",
        "4294967296",
        "99999999999999999999",
        "x",
        "",
        "1.5",
        " 5",
    ],
    "X-Vertex-Ai-Triton-Redirect": [
        *(
            "v2",
            "/v2",
            "v2/",
            "v2/models/identity_fp32",
            "v2/models/identity_fp32/infer",
            "v2/models/none/infer",
            "..",
            "",
        ),
        *(
            "v2/repository/models/slow/load",
            "v2/repository/models/slow/unload",
            "v2/logging",
            "v2/models/../repository",
        ),
        *(
            "v2/systemsharedmemory/register",
            "v2/systemsharedmemory/region/x/register",
            "v2/models/a b/infer",
            "metrics?x=1",
        ),
        *("v2/models/%2e%2e/config", "v2//models", "V2", "http://127.0.0.1/v2", "v2/repository/index", "x" * 3000),
    ],
    "Accept": [
        "*/*",
        "application/json",
        "text/event-stream",
        "application/x-npy",
        "x",
        ",,;q=",
        "text/event-stream;q=0",
    ],
    "Accept-Encoding": ["gzip", "deflate", "br", "gzip;q=x", "*;q=0", ";", "gzip" * 200],
    "Content-Encoding": ["gzip", "deflate", "identity", "br", "x"],
    "X-Request-Id": ["a", "a b", "\u00e9", "x" * 500, ""],
    "Expect": ["100-continue", "200-maybe", ""],
    "Cookie": ["a=b" * 300],
    "Host": ["", "x y", "[::1"],
}
_METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PRI", "get", "X" * 50]
_ENDS = [
    "",
    "/ready",
    "/config",
    "/stats",
    "/infer",
    "/generate",
    "/generate_stream",
    "/load",
    "/trace/setting",
    "/x",
    "//",
]


@dataclass
class Sent:
    """A request as bytes.

    Attributes:
        kind: of mistake.
        whole: it has to be answered; else its framing may promise more than comes.
    """

    kind: str
    data: bytes
    method: str = "POST"
    whole: bool = True


@dataclass
class Found:
    """What a run found."""

    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    mistakes: list[str] = field(default_factory=list)
    right: int = 0


class Maker:
    """Makes requests, the same for the same seed."""

    def __init__(self, seed: int, host: str, predict_route: str) -> None:
        self._chance = random.Random(seed)
        self._host, self._route = host, predict_route
        self._kinds: list[Callable[[], Sent]] = [
            *[self.bytes_of_json] * 5,
            *[self.values_of_json] * 6,
            *[self.headers] * 4,
            *[self.binary] * 2,
            *[self.paths] * 2,
            self.npy,
            self.compressed,
            self.framing,
        ]

    def __call__(self) -> Sent:
        return self._chance.choice(self._kinds)()

    def right(self) -> Sent:
        return self._post("right", _RIGHT[0])

    def bytes_of_json(self) -> Sent:
        body = bytearray(json.dumps(self._document()).encode())
        for _ in range(self._chance.randint(1, 4)):
            at = self._chance.randrange(len(body) + 1)
            end = at + self._chance.choice([0, 0, 1, 3, 20])
            body[at:end] = self._chance.choice([b"", bytes([self._chance.randrange(256)]), *_TOKENS])
        if self._chance.random() < 0.2:
            del body[self._chance.randrange(len(body) + 1) :]
        return self._post("bytes of JSON", bytes(body), self._somewhere())

    def values_of_json(self) -> Sent:
        document = self._document()
        for _ in range(self._chance.randint(1, 3)):
            document = self._spoilt(document)
        return self._post("values of JSON", json.dumps(document).encode("utf-8", "surrogatepass"), self._somewhere())

    def headers(self) -> Sent:
        chosen = self._chance.sample(list(_HEADERS), self._chance.randint(1, 3))
        given = {name: self._chance.choice(_HEADERS[name]) for name in chosen}
        if given.get("Expect") == "100-continue":
            given.pop("Expect")  # two answers; item 12 has it
        return self._post("headers", json.dumps(self._document()).encode(), self._somewhere(), **given)

    def binary(self) -> Sent:
        head = json.dumps(self._oip("binary_data_size")).encode()
        raw = self._chance.randbytes(self._chance.choice([0, 1, 4, 8, 12, 64]))
        length = self._chance.choice([len(head), len(head), len(head) - 1, len(head) + len(raw), 0, len(head) + 1])
        if self._chance.random() < 0.3:
            head = head.replace(b"inputs", self._chance.choice([b"shared_memory_region", b"\\u0069nputs", b"outputs"]))
        named = {"Inference-Header-Content-Length": str(length), "Content-Type": "application/octet-stream"}
        if self._chance.random() < 0.4:
            named = {"Content-Type": f"application/vnd.vertex-ai-triton.binary+json;json-header-size={length}"}
        return self._post("binary", head + raw, self._somewhere(), **named)

    def paths(self) -> Sent:
        model = self._chance.choice(
            [*MODELS, "..", "%2e%2e", "%2f", "a%2Fb", "%00", "x" * 300, "\u00e9", "{model}", ""]
        )
        model = model if model not in MODELS or model in _ASKED else "add_sub"
        version = self._chance.choice(
            ["", "", "/versions/1", "/versions/99", "/versions/x", "/versions/-1", "/versions/"]
        )
        base = self._chance.choice(
            ["/v2/models/", "/v1/models/", "//v2/models/", "/V2/models/", "/v2/./models/", "/v2/repository/"]
        )
        end = self._chance.choice([*_ENDS, ":predict"])
        path = self._chance.choice(
            [f"{base}{model}{version}{end}", "/", "*", "/openapi.json", "/v2", "/v2/models/stats"]
        )
        path = f"{path}{self._chance.choice(['', '', '', '?', '?x=%', '#', ';x'])}"
        method = self._chance.choice(_METHODS)
        sent = self._sent("paths", method, path, json.dumps(self._document()).encode())
        sent.whole = method not in ("CONNECT", "PRI")  # what follows these is not framed
        return sent

    def npy(self) -> Sent:
        file = io.BytesIO()
        np.save(
            file, np.ones(self._chance.choice([(2, 3), (1,), (), (0, 2)]), self._chance.choice(["f4", "i8", "?", "S3"]))
        )
        body = bytearray(file.getvalue())
        for _ in range(self._chance.randint(0, 3)):
            body[self._chance.randrange(len(body))] = self._chance.randrange(256)
        if self._chance.random() < 0.3:
            body = bytearray(bytes(body).replace(b"(2, 3)", b"(999999999999, 3)"))
        return self._post("npy", bytes(body), **{"Content-Type": "application/x-npy"})

    def compressed(self) -> Sent:
        body = bytearray(gzip.compress(json.dumps(self._document()).encode(), 1, mtime=0))
        for _ in range(self._chance.randint(1, 3)):
            body[self._chance.randrange(len(body))] = self._chance.randrange(256)
        del body[self._chance.choice([len(body), len(body) - 1, len(body) // 2]) :]
        return self._post("compressed", bytes(body), **{"Content-Encoding": self._chance.choice(["gzip", "deflate"])})

    def framing(self) -> Sent:
        """Heads and bodies whose borders are not what they say."""
        body = json.dumps(self._document()).encode()
        lines = self._chance.choice(
            [
                [f"Content-Length: {len(body) + 9}"],
                ["Content-Length: -1"],
                ["Content-Length: 1", "Content-Length: 2"],
                [f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"],
                ["Transfer-Encoding: gzip"],
                ["Transfer-Encoding: chunked"],
                ["Content-Length: 0x10"],
                ["Content-Length: 99999999999999999999"],
                [" folded: x"],
                ["no colon"],
                ["name\x00: x"],
                ["X: " + "y" * 20000],
                [f"X{n}: y" for n in range(300)],
                [],
            ]
        )
        end = self._chance.choice(["\r\n\r\n", "\r\n\r\n", "\n\n", "\r\n", ""])
        head = "\r\n".join([f"POST {self._route} HTTP/1.1", f"Host: {self._host}", *lines]) + end
        return Sent("framing", head.encode("latin-1") + body, whole=False)

    def _somewhere(self) -> str:
        """A path that takes a body."""
        model = self._chance.choice(_ASKED)
        named = [f"/v1/models/{model}:predict", f"/v2/models/{model}/infer", f"/v2/models/{model}/generate"]
        return self._chance.choice([*[self._route] * 6, *named])

    def _document(self) -> dict[str, Any]:
        model = self._chance.choice(_ASKED)
        inputs = {tensor.name: self._value(tensor.datatype, tensor.dims) for tensor in MODELS[model].inputs}
        value = inputs if len(inputs) > 1 or self._chance.random() < 0.3 else next(iter(inputs.values()))
        parameters = {"parameters": {"model": model, **self._chance.choice([{}, {}, {"top_k": 2}, {"version": 1}])}}
        return self._chance.choice(
            [
                {"instances": [value] * self._chance.randint(1, 3), **parameters},
                {"instances": [value], **parameters},
                {"inputs": {name: [item] for name, item in inputs.items()}, **parameters},
                {**self._oip("data"), **parameters},
                {**inputs, **parameters},
            ]
        )

    def _value(self, datatype: str, dims: tuple[int, ...]) -> Any:
        if not dims:
            return {"BOOL": True, "BYTES": "text"}.get(datatype, 1)
        return [self._value(datatype, dims[1:]) for _ in range(dims[0] if dims[0] > 0 else self._chance.randint(1, 3))]

    def _oip(self, where: str) -> dict[str, Any]:
        shape = self._chance.choice([[1, 2], [2], [1, 1], [-1], [0], [1, 2, 3], [2**40, 2**40], [1.5], "x"])
        there: dict[str, Any] = {"data": self._chance.choice([[1, 2], [[1.5, 2]], [], "x", [None], [1, "a"], {"a": 1}])}
        if where != "data":
            there = {"parameters": {where: self._chance.choice([0, 4, 8, -1, 2**40, "8", 1.5, None])}}
        datatype = self._chance.choice(["FP32", "FP32", "BYTES", "INT64", "FP99", "", 5])
        return {
            "inputs": [
                {"name": self._chance.choice(["X", "X", "Z", ""]), "shape": shape, "datatype": datatype, **there}
            ]
        }

    def _spoilt(self, value: Any) -> Any:
        """The same with a value in it that is another one, or missing."""
        if isinstance(value, dict) and value and self._chance.random() < 0.8:
            name = self._chance.choice(list(value))
            changed = {**value, name: self._spoilt(value[name])}
            return changed if self._chance.random() < 0.85 else {k: v for k, v in changed.items() if k != name}
        if isinstance(value, list) and value and self._chance.random() < 0.8:
            at = self._chance.randrange(len(value))
            return [*value[:at], self._spoilt(value[at]), *value[at + 1 :]]
        return self._chance.choice(_VALUES)

    def _post(self, kind: str, body: bytes, path: str = "", **headers: str) -> Sent:
        return self._sent(kind, "POST", path or self._route, body, **headers)

    def _sent(self, kind: str, method: str, path: str, body: bytes, **headers: str) -> Sent:
        named = {"Host": self._host, "Content-Type": "application/json", **headers, "Content-Length": str(len(body))}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
        return Sent(kind, "\r\n".join([*lines, "", ""]).encode() + body, method)


class Fuzz:
    """A run against one listener."""

    def __init__(self, host: str, port: int, make: Maker) -> None:
        self._host, self._port, self._make = host, port, make
        self.found = Found()

    async def run(self, requests: int) -> Found:
        left = iter(range(requests))
        await asyncio.gather(*(self._work(left) for _ in range(_WORKERS)))
        return self.found

    async def _work(self, left: Any) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for number in left:
            right = number % RIGHT_EVERY == 0
            sent = self._make.right() if right else self._make()
            if connection is None or connection[1].is_closing() or not sent.whole or right:
                if connection:
                    connection[1].close()
                connection, fresh = await asyncio.open_connection(self._host, self._port, limit=1 << 20), True
            else:
                fresh = False
            keeps = await self._exchange(sent, *connection, right=right, fresh=fresh)
            if not keeps:
                connection[1].close()
                connection = None
        if connection:
            connection[1].close()

    async def _exchange(
        self, sent: Sent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, right: bool, fresh: bool
    ) -> bool:
        """Whether another request may follow. A kept connection may end before an answer begins (RFC 9112, 9.3.1)."""
        try:
            writer.write(sent.data)
            async with asyncio.timeout(_PATIENCE if sent.whole else _SHORT):
                status, headers, body = await _answer(reader, sent.method)
        except TimeoutError:
            if sent.whole:
                self._mistake(sent, "no answer")
            self.found.statuses[f"{sent.kind}: waits for more"] += 1
            return False
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            between = not fresh and isinstance(error, OSError | asyncio.IncompleteReadError)
            if sent.whole and not between:
                self._mistake(sent, f"no answer that can be read: {error!r}")
            self.found.statuses[f"{sent.kind}: closed"] += 1
            return False
        self.found.statuses[f"{sent.kind}: {status}"] += 1
        self._look(sent, status, headers, body, right)
        return headers.get("connection", headers["version"]).lower() not in ("close", "http/1.0") and sent.whole

    def _look(self, sent: Sent, status: int, headers: dict[str, str], body: bytes, right: bool) -> None:
        if status >= 500:
            self._mistake(sent, f"{status} {body[:300]!r}")
        elif right and (status, body) != (200, _RIGHT[1]):
            self._mistake(sent, f"a right request was answered {status} {body[:300]!r}")
        elif status >= 400 and sent.method != "HEAD" and not _is_error(headers, body):
            self._mistake(sent, f"{status} without the one error body: {body[:300]!r}")
        self.found.right += right

    def _mistake(self, sent: Sent, what: str) -> None:
        self.found.mistakes.append(f"{sent.kind}: {what}\n    {sent.data[:1500]!r}")


def _is_error(headers: dict[str, str], body: bytes) -> bool:
    try:
        said = json.loads(body)
    except ValueError:
        return False
    one = isinstance(said, dict) and list(said) == ["error"] and isinstance(said["error"], str)
    return one and said["error"].isprintable() and headers.get("content-type", "").startswith("application/json")


async def _answer(reader: asyncio.StreamReader, method: str) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head[:-4].split("\r\n")
    status = int(first.split(" ")[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    headers["version"] = first.split(" ")[0]
    if method == "HEAD" or status == 204:
        return status, headers, b""
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return status, headers, body
    return status, headers, await reader.readexactly(int(headers["content-length"]))


def run(host: str, port: int, predict_route: str, requests: int, seed: int) -> Found:
    """So many requests."""
    fuzz = Fuzz(host, port, Maker(seed, f"{host}:{port}", predict_route))
    return asyncio.run(fuzz.run(requests))


def told(counts: Mapping[str, int], mistakes: Sequence[str], right: int) -> int:
    """Prints what a fuzzer found; the exit status.

    Args:
        counts: by what became of a request.
        mistakes: in words.
        right: good requests in between.
    """
    for kind, count in sorted(counts.items()):
        print(f"{count:8} {kind}")
    for mistake in mistakes[:20]:
        print(mistake)
    print(f"{len(mistakes)} mistakes; {right} right requests in between")
    return 1 if mistakes else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--predict-route", default="/predict")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    parts = urllib.parse.urlsplit(given.url)
    found = run(parts.hostname or "127.0.0.1", parts.port or 80, given.predict_route, given.requests, given.seed)
    return told(found.statuses, found.mistakes, found.right)


if __name__ == "__main__":
    sys.exit(main())
