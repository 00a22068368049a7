"""Sizes: what a batch job sends, what is too much, and bodies that are small outside and large inside."""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contract.container import Processes
from tests.contract.target import Answer, Target, read, refused
from tests.integration.stack import wait_for

pytestmark = pytest.mark.triton

MB = 1_000_000
MiB = 1 << 20
#: LISTENER_MAX_BODY where nothing is set.
LIMIT = 12 * MiB


@pytest.fixture(autouse=True)
def healthy(target: Target) -> None:
    """What one test has done to the listener or to Triton is not the next one's."""
    good = b'{"instances": [[1.0]]}'
    wait_for(lambda: target.predict(good).status == target.health() == 200, 60)


def padded(size: int, row: str = "[1.0]") -> bytes:
    """A good request of exactly this many bytes."""
    body = f'{{"instances": [{row}]'.encode()
    return body + b" " * (size - len(body) - 1) + b"}"


def checked(answer: Answer, predictions: Any) -> None:
    assert answer.status == 200, (answer.status, answer.body[:200])
    assert answer.json() == {"predictions": predictions}


# What the platform sends


def test_64_records_of_a_batch_job(target: Target) -> None:
    """Of files: base64 of some ten kilobytes each."""
    contents = [np.random.default_rng(n).bytes(20_000) for n in range(64)]
    records = [{"b64": base64.b64encode(content).decode()} for content in contents]
    predictions = target.predictions(records, "picture")
    assert [prediction["SIZE"] for prediction in predictions] == [[20_000]] * 64
    heads = [base64.b64encode(content[:4]).decode() for content in contents]
    assert [prediction["HEAD_bytes"][0]["b64"] for prediction in predictions] == heads


@pytest.mark.parametrize("size", [1_400_000, 9_900_000])
def test_a_request_of_numbers_of_that_size(target: Target, size: int) -> None:
    """1.5 MB is what a shared public endpoint lets through, 10 MB a dedicated one."""
    count = size // 8
    numbers = (np.arange(count, dtype=np.int64) % 90_000 + 10_000).tolist()
    body = json.dumps({"instances": [numbers], "parameters": {"model": "identity_int32"}}).encode()
    body = body[:-1] + b" " * (size - len(body)) + b"}"
    assert len(body) == size
    checked(target.predict(body), [numbers])


@pytest.mark.parametrize("size", [1_400_000, 9_900_000])
def test_a_request_of_bytes_of_that_size(target: Target, size: int) -> None:
    content = np.random.default_rng(size).integers(0, 255, size * 3 // 4 - 300, np.uint8).tobytes()
    instance = {"b64": base64.b64encode(content).decode()}
    (prediction,) = target.predictions([instance], "picture")
    assert prediction["SIZE"] == [len(content)]
    array = np.frombuffer(content[: len(content) // 4 * 4], "<u4").astype("<f4")
    raw = target.predict(array.tobytes(), Content_Type="application/octet-stream")
    assert raw.status == 200
    (row,) = raw.json()["predictions"]
    np.testing.assert_array_equal(np.array(row, "<f4"), array)


def test_a_tensor_of_that_size_in_open_inference_protocol(target: Target) -> None:
    array = np.random.default_rng(3).random((1, 9_900_000 // 4)).astype("<f4")
    tensor = {
        "name": "X",
        "datatype": "FP32",
        "shape": list(array.shape),
        "parameters": {"binary_data_size": array.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    for path in (target.predict_route, "/v2/models/identity_fp32/infer"):
        headers = {"Inference-Header-Content-Length": str(len(head))}
        answer = target.post(path, head + array.tobytes(), headers)
        assert answer.status == 200
        assert answer.body[int(answer.header("Inference-Header-Content-Length") or "") :] == array.tobytes()


def test_100_000_scalar_instances(target: Target) -> None:
    numbers = list(range(100_000))
    assert target.predictions(numbers, "identity_int32") == [[number] for number in numbers]


# The limit


@pytest.fixture(scope="module")
def limit(target: Target) -> int:
    """The target's limit, which its refusal names."""
    answer = target.request("POST", target.predict_route, b" " * (65 * MiB))
    return int(next(word for word in refused(answer, 413).split() if word.isdigit()))


def test_the_limit_is_12_mib_where_nothing_is_set(here: None, limit: int) -> None:
    assert limit == LIMIT


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(target: Target, limit: int) -> None:
    checked(target.predict(padded(limit)), [[1.0]])
    sentence = refused(target.predict(padded(limit + 1)), 413)
    assert str(limit) in sentence
    assert "LISTENER_MAX_BODY" in sentence


@pytest.mark.parametrize(
    "path",
    [
        "{predict}",
        "/v1/models/matrix:predict",
        "/v2/models/matrix/infer",
        "/v2/models/greeting/generate",
        "/v2/models/greeting/generate_stream",
        "/v2/repository/index",
    ],
)
def test_the_limit_holds_on_every_route(target: Target, limit: int, path: str) -> None:
    answer = target.post(path.format(predict=target.predict_route), padded(limit + 1))
    assert "LISTENER_MAX_BODY" in refused(answer, 413)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "application/x-npy"},
        {"Content-Type": "image/png"},
        {"Inference-Header-Content-Length": "10"},
        {"Content-Type": "application/vnd.vertex-ai-triton.binary+json;json-header-size=10"},
        {"X-Vertex-Ai-Triton-Redirect": "v2/models/matrix/infer"},
    ],
)
def test_the_limit_holds_for_every_form(target: Target, limit: int, headers: dict[str, str]) -> None:
    assert "LISTENER_MAX_BODY" in refused(target.post(target.predict_route, b" " * (limit + 1), headers), 413)


def test_a_body_that_is_said_to_be_too_large_is_not_waited_for(target: Target) -> None:
    head = f"POST {target.predict_route} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".encode()
    refused(target.raw(head, patience=10), 413)


# Encodings of a request


def deflated(content: bytes) -> bytes:
    """Without zlib's head, as some clients understand `deflate`."""
    made = zlib.compressobj(wbits=-15)
    return made.compress(content) + made.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": deflated,
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [100, 2 * MB])
def test_a_compressed_request(target: Target, name: str, size: int) -> None:
    body = ENCODERS[name](padded(size))
    checked(target.predict(body, Content_Encoding=name.split()[-1]), [[1.0]])


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_compressed_request_in_open_inference_protocol(target: Target, name: str) -> None:
    tensor = {"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [1]}
    body = ENCODERS[name](json.dumps({"inputs": [tensor]}).encode())
    for path in (target.predict_route, "/v2/models/identity_fp32/infer"):
        answer = target.post(path, body, {"Content-Encoding": name})
        assert answer.status == 200
        assert answer.json()["outputs"][0]["data"] == [1.0]


def test_a_gzip_body_in_several_members(target: Target) -> None:
    body = padded(100)
    checked(target.predict(gzip.compress(body[:50]) + gzip.compress(body[50:]), Content_Encoding="gzip"), [[1.0]])


@pytest.mark.parametrize("encoding", ["identity", "GZIP"])
def test_names_of_encodings(target: Target, encoding: str) -> None:
    body = padded(100)
    sent = gzip.compress(body) if encoding == "GZIP" else body
    checked(target.predict(sent, Content_Encoding=encoding), [[1.0]])


#: Content-Encoding, and a body that is not in it.
DAMAGED: dict[str, tuple[str, bytes]] = {
    "not gzip": ("gzip", padded(100)),
    "gzip without its end": ("gzip", gzip.compress(padded(100), mtime=0)[:-9]),
    "gzip with noise": ("gzip", gzip.compress(padded(100), mtime=0)[:20] + b"\xff" * 20),
    "nothing": ("gzip", b""),
    "not deflate": ("deflate", padded(100)),
    "deflate without its end": ("deflate", zlib.compress(padded(100))[:-5]),
    "brotli": ("br", padded(100)),
    "zstandard": ("zstd", padded(100)),
    "compress": ("compress", padded(100)),
    "gzip twice": ("gzip, gzip", gzip.compress(gzip.compress(padded(100), mtime=0), mtime=0)),
    "unknown": ("rot13", padded(100)),
}


@pytest.mark.parametrize(("encoding", "body"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_body_that_is_not_in_its_encoding_is_refused(target: Target, encoding: str, body: bytes) -> None:
    """br and zstd may be known where their libraries are; then the body is damaged."""
    refused(target.predict(body, Content_Encoding=encoding), 400, 415)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """1 GiB of blanks as gzip, in one megabyte: one block again and again, whose checksum nobody should reach."""
    made = zlib.compressobj(9, wbits=-15)
    block = made.compress(b" " * (1 << 24)) + made.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + block * 64 + b"\x03\x00" + bytes(8)


@pytest.mark.parametrize("path", ["{predict}", "/v2/models/identity_fp32/infer", "/v2/models/greeting/generate"])
def test_a_bomb_is_413(target: Target, limit: int, bomb: bytes, path: str) -> None:
    assert len(bomb) < 2 * MiB < limit
    answer = target.post(path.format(predict=target.predict_route), bomb, {"Content-Encoding": "gzip"})
    assert "LISTENER_MAX_BODY" in refused(answer, 413)


def test_bombs_hold_up_nobody(target: Target, bomb: bytes) -> None:
    """Given up at the limit: to go through all of one, before the refusal or after it, takes seconds."""

    def waited() -> float:
        begin = time.monotonic()
        assert target.health() == 200
        return time.monotonic() - begin

    waits = list[float]()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(target.predict, bomb, Content_Encoding="gzip") for _ in range(16)]
        while not all(answer.done() for answer in answers):
            waits.append(waited())
    end = time.monotonic() + 3
    while time.monotonic() < end:
        waits.append(waited())
    for answer in answers:
        refused(answer.result(), 413)
    assert max(waits) < 2


class Watch:
    """The greatest resident memory of a process while inside, in bytes."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.before = self.greatest = self.now()

    def now(self) -> int:
        line = next(line for line in self._status.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self.greatest = max(self.greatest, self.now())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_bombs_cost_no_memory(container: Processes, bomb: bytes) -> None:
    """Eight at once would be 8 GiB; what each may hold is the limit and a piece more."""
    target = container.target()
    with Watch(container.worker_pid()) as watch, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: target.predict(bomb, Content_Encoding="gzip"), range(8)))
    for answer in answers:
        refused(answer, 413)
    assert watch.greatest - watch.before < 8 * 3 * LIMIT


def test_bodies_that_are_too_large_cost_no_memory(container: Processes) -> None:
    target = container.target()
    chunk = b"100000\r\n" + b" " * MiB + b"\r\n"

    def endless(_: int) -> None:
        head = f"POST {target.predict_route} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        with target.connect(20) as connection:
            try:
                connection.sendall(head + chunk * 100)
            except ConnectionError:
                return
            refused(read(connection), 413)

    with Watch(container.worker_pid()) as watch, ThreadPoolExecutor(4) as pool:
        list(pool.map(endless, range(8)))
    assert watch.greatest - watch.before < 4 * 3 * LIMIT
    assert target.predictions([[1.0]]) == [[1.0]]


# Ways to send a body


def chunked(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        part = body[start : start + size]
        yield f"{len(part):x}\r\n".encode() + part + b"\r\n"
    yield b"0\r\n\r\n"


@pytest.mark.parametrize(("length", "size"), [(30, 1), (30, 7), (5 * MB, 65_536), (5 * MB, 5 * MB)])
@pytest.mark.parametrize("pause", [0.0, 0.001])
def test_an_upload_in_chunks(target: Target, length: int, size: int, pause: float) -> None:
    head = f"POST {target.predict_route} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with target.connect() as connection:
        connection.sendall(head)
        for chunk in chunked(padded(length), size):
            connection.sendall(chunk)
            time.sleep(pause)
        checked(read(connection), [[1.0]])


def test_an_upload_in_chunks_that_is_compressed(target: Target) -> None:
    lines = [f"POST {target.predict_route} HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", "Content-Encoding: gzip"]
    with target.connect() as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        connection.sendall(b"".join(chunked(gzip.compress(padded(MB)), 100)))
        checked(read(connection), [[1.0]])


@pytest.mark.parametrize("path", ["{predict}", "/v2/models/identity_fp32/generate"])
def test_whoever_asks_first_is_told_to_go_on(target: Target, path: str) -> None:
    """`Expect: 100-continue`, as curl sends it with large bodies."""
    body = padded(2 * MB) if "predict" in path else b'{"X": [1.0]}'
    lines = [f"POST {path.format(predict=target.predict_route)} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    with target.connect(10) as connection:
        connection.sendall("\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode())
        said = connection.recv(1000)
        assert said.startswith(b"HTTP/1.1 100 ")
        assert said.endswith(b"\r\n\r\n")
        connection.sendall(body)
        assert read(connection).status == 200


def test_whoever_asks_first_is_told_if_it_is_too_much(target: Target) -> None:
    lines = [f"POST {target.predict_route} HTTP/1.1", "Host: x", "Content-Length: 999999999", "Expect: 100-continue"]
    refused(target.raw("\r\n".join([*lines, "", ""]).encode(), patience=10), 413)


@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_a_request_that_comes_in_pieces(target: Target, pieces: int) -> None:
    body = padded(20_000)
    sent = f"POST {target.predict_route} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with target.connect() as connection:
        size = len(sent) // pieces + 1
        for start in range(0, len(sent), size):
            connection.sendall(sent[start : start + size])
            time.sleep(0.0005)
        checked(read(connection), [[1.0]])


def test_requests_one_behind_the_other_are_answered_in_their_order(target: Target) -> None:
    requests = b""
    for n in range(20):
        body = json.dumps({"instances": [[n]], "parameters": {"model": "identity_int32"}}).encode()
        head = f"POST {target.predict_route} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        requests += (head + ("Connection: close\r\n" if n == 19 else "") + "\r\n").encode() + body
    received = bytearray()
    with target.connect() as connection:
        connection.sendall(requests)
        while more := connection.recv(65536):
            received += more
    assert received.count(b"HTTP/1.1 200") == 20
    bodies = [received.find(f'{{"predictions":[[{n}]]}}'.encode()) for n in range(20)]
    assert sorted(bodies) == bodies
    assert bodies[0] > 0


# Bombs of JSON

BOMBS: dict[str, bytes] = {
    "lists": b'{"instances": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    "lists that stay open": b'{"instances": ' + b"[" * 1_000_000,
    "objects": b'{"instances": [' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"]}",
    "base64 far down": b'{"instances": [' + b"[" * 1000 + b'{"b64": ""}' + b"]" * 1000 + b"]}",
    "parameters": b'{"instances": [[1]], "parameters": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    "a number of a million digits": b'{"instances": [[' + b"9" * 1_000_000 + b"]]}",
    "a fraction of a million digits": b'{"instances": [[0.' + b"1" * 1_000_000 + b"e400000]]}",
    "a large exponent": b'{"instances": [[1e999999999]]}',
    "text of a million digits": b'{"instances": [["'
    + b"9" * 1_000_000
    + b'"]], "parameters": {"model": "identity_int64"}}',
    "a name of a megabyte": b'{"instances": [{"' + b"a" * MB + b'": 1}]}',
    "a model of a megabyte": b'{"instances": [[1]], "parameters": {"model": "' + b"a" * MB + b'"}}',
    "columns": b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a million empty rows": b'{"instances": [' + b"{}," * 1_000_000 + b"{}]}",
    "a million names": b'{"instances": [{' + b",".join(b'"%d":1' % n for n in range(500_000)) + b"}]}",
}


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_of_json_is_400_and_harms_nobody(target: Target, body: bytes) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(target.predict, body)
        while not answer.done():
            begin = time.monotonic()
            assert target.health() == 200
            assert time.monotonic() - begin < 10
    assert len(refused(answer.result(), 400)) <= 520
    assert target.predictions([[1.0]]) == [[1.0]]


#: Ways to Triton, which reads JSON by recursion: 2.51 dies of 100,000 levels of data, and of a million of anything.
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "OIP on the predict route": ("{predict}", {}),
    "infer": ("/v2/models/identity_fp32/infer", {}),
    "generate": ("/v2/models/greeting/generate", {}),
    "generate_stream": ("/v2/models/greeting/generate_stream", {}),
    "index": ("/v2/repository/index", {}),
    "redirect": ("{predict}", {"X-Vertex-Ai-Triton-Redirect": "v2/models/identity_fp32/infer"}),
    "redirect, index": ("{predict}", {"X-Vertex-Ai-Triton-Redirect": "v2/repository/index"}),
    "events": ("{predict}", {"Accept": "text/event-stream"}),
}


_TENSOR = b'{"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": '

DEEP: dict[str, bytes] = {
    "lists that stay open": b"[" * 1_000_000,
    "lists": b'{"text_input": "a", "inputs": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
    "objects": b'{"text_input": "a", "parameters": ' + b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000 + b"}",
    "data": _TENSOR + b"[" * 100_000 + b"1" + b"]" * 100_000 + b"}]}",
    "binary": _TENSOR + b"[" * 100_000 + b"1" + b"]" * 100_000 + b"}]}",
}


@pytest.mark.parametrize("form", DEEP)
@pytest.mark.parametrize(("path", "headers"), WAYS.values(), ids=WAYS.keys())
def test_a_bomb_of_json_does_not_reach_triton(target: Target, path: str, headers: dict[str, str], form: str) -> None:
    body = DEEP[form]
    length = {"Inference-Header-Content-Length": str(len(body))} if form == "binary" else {}
    refused(target.post(path.format(predict=target.predict_route), body, headers | length), 400)
    assert target.predictions([[1.0]]) == [[1.0]]


def test_json_bombs_cost_no_memory(container: Processes) -> None:
    target = container.target()
    bodies = [BOMBS[name] for name in ("lists", "objects", "a million empty rows", "lists that stay open")] * 6
    for body in bodies[:8]:  # what is kept once is no growth
        target.predict(body)
    with Watch(container.worker_pid()) as watch:
        for body in bodies:
            refused(target.predict(body), 400)
    assert watch.now() - watch.before < 64 * MiB


# Compression of answers


def ask(target: Target, path: str, encoding: str | None, count: int) -> Answer:
    headers = {"Content-Type": "application/json"} | ({} if encoding is None else {"Accept-Encoding": encoding})
    document: dict[str, Any] = {"instances": [[0.5] * count]}
    if path.endswith("infer"):
        document = {"inputs": [{"name": "X", "shape": [1, count], "datatype": "FP32", "data": [0.5] * count}]}
    return target.post(path.format(predict=target.predict_route), json.dumps(document).encode(), headers)


LARGE = 300_000
PATHS = ["{predict}", "/v1/models/identity_fp32:predict", "/v2/models/identity_fp32/infer"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, deflate, br", "gzip;q=0.5", "*"])
def test_a_large_answer_comes_compressed_on_request(target: Target, path: str, encoding: str) -> None:
    plain, answer = ask(target, path, None, LARGE), ask(target, path, encoding, LARGE)
    assert plain.status == answer.status == 200
    assert plain.header("Content-Encoding") is None
    made = answer.header("Content-Encoding")
    assert made in ("gzip", "deflate")
    assert (gzip.decompress if made == "gzip" else zlib.decompress)(answer.body) == plain.body
    assert answer.media_type == "application/json"
    assert len(answer.body) < len(plain.body) // 4
    assert len(plain.body) > MB


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", [None, "identity", "gzip;q=0", "br", "gzip;q=0, identity", "nonsense", ""])
def test_who_does_not_ask_for_compression_gets_none(target: Target, path: str, encoding: str | None) -> None:
    answer = ask(target, path, encoding, LARGE)
    assert answer.status == 200
    assert answer.header("Content-Encoding") is None
    answer.json()


def test_a_small_answer_can_be_read_either_way(target: Target) -> None:
    answer = ask(target, "{predict}", "gzip", 1)
    made = answer.header("Content-Encoding")
    content = gzip.decompress(answer.body) if made == "gzip" else answer.body
    assert json.loads(content) == {"predictions": [[0.5]]}


def test_an_error_can_be_read_by_whoever_asks_for_compression(target: Target) -> None:
    answer = target.predict(b"{", Accept_Encoding="gzip")
    refused(answer, 400)


def test_a_stream_is_not_compressed(target: Target) -> None:
    answer = target.post("/v2/models/counting/generate_stream", {"COUNT": 3}, {"Accept-Encoding": "gzip"})
    assert answer.header("Content-Encoding") is None
    assert answer.body.count(b"data: ") == 3
