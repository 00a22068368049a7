"""The proxy that the tests of faults use: what it adds to the emulator, counts and breaks, seen by a plain client."""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Iterator

import google_crc32c
import pytest
import requests

from tests.artifacts import faults
from tests.artifacts.emulator import Emulator
from tests.artifacts.faults import Close, Fault, Flip, Proxy, Replace, Reset, Short, Stall, Status, Wait

CONTENT = bytes(range(256)) * 2_000
SIZE = len(CONTENT)


class Asked:
    """A bucket with one object, and a client of its own for it."""

    def __init__(self, proxy: Proxy, bucket: str) -> None:
        self.proxy, self.bucket = proxy, bucket
        self.generation = requests.get(self._url("/storage/v1"), timeout=10).json()["generation"]

    def _url(self, prefix: str) -> str:
        return f"{self.proxy.url}{prefix}/b/{self.bucket}/o/a%2Fb"

    def read(self, span: str = "", **query: str) -> requests.Response:
        headers = {"Range": span} if span else {}
        url = self._url("/download/storage/v1")
        return requests.get(url, params={"alt": "media", **query}, headers=headers, timeout=10)

    def page(self, **query: str | None) -> requests.Response:
        return requests.get(f"{self.proxy.url}/storage/v1/b/{self.bucket}/o", params=query, timeout=10)


@pytest.fixture
def asked(emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[Asked]:
    bucket = f"proxy-{zlib.crc32(request.node.name.encode())}"
    emulator.put(bucket, {"a/b": CONTENT})
    with faults.proxy(emulator.url) as proxy:
        yield Asked(proxy, bucket)


def test_a_whole_object_with_its_headers(asked: Asked) -> None:
    answer = asked.read(generation=asked.generation, ifGenerationMatch=asked.generation)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    crc32c = base64.b64encode(google_crc32c.value(CONTENT).to_bytes(4, "big")).decode()
    assert answer.headers["x-goog-hash"].startswith(f"crc32c={crc32c},md5=")
    assert answer.headers["x-goog-generation"] == asked.generation
    assert answer.headers["x-goog-stored-content-length"] == str(SIZE)


@pytest.mark.parametrize(
    ("span", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=500000-", 500_000, SIZE),
        (f"bytes=5-{SIZE + 7}", 5, SIZE),
        ("bytes=-3", SIZE - 3, SIZE),
    ],
)
def test_a_range(asked: Asked, span: str, begin: int, end: int) -> None:
    answer = asked.read(span)
    assert (answer.status_code, answer.content) == (206, CONTENT[begin:end])
    assert answer.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{SIZE}"
    (seen,) = asked.proxy.reads("a/*")
    assert (seen.span, seen.sent, seen.status, seen.nth) == ((begin, end), end - begin, 206, 1)


@pytest.mark.parametrize("span", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 9}", "bytes=-0"])
def test_a_range_outside_of_the_object(asked: Asked, span: str) -> None:
    answer = asked.read(span)
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize("span", ["bytes=9-3", "bytes=-", "lines=1-2"])
def test_a_range_that_is_none_is_ignored(asked: Asked, span: str) -> None:
    assert asked.read(span).content == CONTENT


def test_another_generation(asked: Asked) -> None:
    assert asked.read(generation="1").status_code == 404
    assert asked.read(ifGenerationMatch="1").status_code == 412
    asked.proxy.replace(asked.bucket, "a/b", b"new")
    assert asked.read(generation=asked.generation).status_code == 404
    assert asked.read(ifGenerationMatch=asked.generation).status_code == 412
    assert asked.read().content == b"new"
    assert [seen.status for seen in asked.proxy.reads()] == [404, 412, 404, 412, 200]


def test_listings_come_in_pages_with_the_fields_that_were_asked_for(asked: Asked, emulator: Emulator) -> None:
    emulator.put(asked.bucket, {f"n/{number:03}": "" for number in range(201)})
    names, token = list[str](), dict[str, str | None]()
    for size in (100, 100, 1):
        found = asked.page(prefix="n/", fields="items(name,size),nextPageToken", **token).json()
        assert len(found["items"]) == size
        assert all(set(item) == {"name", "size"} for item in found["items"])
        names += [item["name"] for item in found["items"]]
        token = {"pageToken": found.get("nextPageToken")}
    assert token == {"pageToken": None}
    assert names == [f"n/{number:03}" for number in range(201)]
    assert "crc32c" in asked.page().json()["items"][0]
    assert [seen.nth for seen in asked.proxy.listings()] == [1, 2, 3, 4]


def test_a_bucket_that_is_not_there(emulator: Emulator) -> None:
    with faults.proxy(emulator.url) as proxy:
        assert requests.get(f"{proxy.url}/storage/v1/b/proxy-nowhere/o", timeout=10).status_code == 404
        assert requests.get(f"{proxy.url}/storage/v1/b/proxy-nowhere", timeout=10).status_code == 404


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Reset(), "Connection reset by peer|ConnectionResetError"), (Close(), f"IncompleteRead.{SIZE // 2} bytes read")],
)
def test_a_body_that_ends_too_early(asked: Asked, fault: Fault, error: str) -> None:
    asked.proxy.inject(fault)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError), match=error):
        asked.read()
    assert asked.proxy.sent() == SIZE // 2


def test_short_but_consistent(asked: Asked) -> None:
    asked.proxy.inject(Short(at=0.5))
    assert asked.read().content == CONTENT[: SIZE // 2]
    answer = asked.read("bytes=100-199")
    assert answer.content == CONTENT[100:150]
    assert answer.headers["Content-Range"] == f"bytes 100-149/{SIZE}"


def test_a_flipped_byte(asked: Asked) -> None:
    asked.proxy.inject(Flip(at=0.25))
    got = asked.read().content
    assert [place for place in range(SIZE) if got[place] != CONTENT[place]] == [SIZE // 4]


def test_a_status_and_when_to_come_again(asked: Asked) -> None:
    asked.proxy.inject(Status(429, retry_after=7), nth={1})
    asked.proxy.inject(Status(503), listing=True)
    answer = asked.read()
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert asked.read().status_code == 200
    assert asked.page().status_code == 503
    asked.proxy.heal()
    assert asked.page().status_code == 200


@pytest.mark.parametrize("fault", [Wait(0.3), Stall(0.3)])
def test_something_comes_late(asked: Asked, fault: Fault) -> None:
    asked.proxy.inject(fault, nth={2})
    for least in (0.0, 0.3):
        begin = time.monotonic()
        assert asked.read().content == CONTENT
        assert time.monotonic() - begin >= least


def test_an_object_is_replaced_just_before_it_is_read(asked: Asked) -> None:
    asked.proxy.inject(Replace(b"new"), nth={2})
    assert asked.read(generation=asked.generation).content == CONTENT
    assert asked.read(generation=asked.generation).status_code == 404
    assert asked.read().content == b"new"


def test_one_that_is_replaced_while_it_is_sent_ends_there(asked: Asked) -> None:
    asked.proxy.inject(Wait(0.1), nth={2})
    asked.proxy.inject(Replace(b"new"), nth={2})
    asked.proxy.inject(Stall(30), nth={1})
    url = f"{asked.proxy.url}/download/storage/v1/b/{asked.bucket}/o/a%2Fb?alt=media"
    with requests.get(url, stream=True, timeout=10) as answer:
        assert answer.raw.read(SIZE // 2) == CONTENT[: SIZE // 2]
        assert asked.read().content == b"new"
        asked.proxy.closing.set()
        with pytest.raises(Exception, match=r"Connection reset|IncompleteRead"):
            answer.raw.read()


def test_a_share_of_the_requests_and_the_same_ones_each_time(asked: Asked) -> None:
    asked.proxy.inject(Status(503), share=0.3, seed=3)
    first = [asked.read("bytes=0-0").status_code for _ in range(60)]
    assert 5 <= first.count(503) <= 31
    with faults.proxy(f"http://{asked.proxy._address}") as other:
        other.inject(Status(503), share=0.3, seed=3)
        again = Asked(other, asked.bucket)
        assert [again.read("bytes=0-0").status_code for _ in range(60)] == first
