"""Cloud Storage as it is, and as it fails: a proxy in front of the emulator, over a real port.

It adds what the emulator lacks: an old or unknown generation is 404, a failed ifGenerationMatch 412, a listing comes in
pages of 100 with the fields that were asked for, an unsatisfiable range is 416, and each answer with bytes has the
headers that the real one has. It counts connections, requests and what it sent for each. And it fails where it is told:

    with faults.proxy(emulator.url) as proxy:
        proxy.inject(Status(503), nth={1})                            # the first read of each object
        proxy.inject(Reset(at=0.9), of="models/big*", nth={1, 2})     # RST in the middle of a body
        proxy.inject(Status(429, retry_after=2), listing=True)        # each page of each listing
        proxy.inject(Close(), share=0.2, seed=7)                      # one read in five, the same ones each time

Requests are counted for each object (and for the listings of each bucket) from 1. Faults that share a request happen in
the order in which they were told; of those that spoil the body, the first one does (on a listing, none flips a byte).
Bodies are passed on as they come.
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import functools
import http.client
import json
import os
import random
import re
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.http_server import Answering, serving

_PAGE = 100
_CHUNK = 65_536
#: Seconds that any one wait on a socket takes at most.
_PATIENCE = 30.0
_JSON = "application/json"
_LIST = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)/o")
_OBJECT = re.compile(r"(?P<download>/download)?/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)")
_RANGE = re.compile(r"bytes=(?P<begin>\d*)-(?P<last>\d*)")


# What can go wrong


@dataclass(frozen=True, slots=True)
class Wait:
    """The answer comes so many seconds later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Replace:
    """Just before it is answered, the object gets other content and with it another generation."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """An error is answered.

    Attributes:
        code: 403, 408, 429, 503, ...
        retry_after: seconds, in its header; None: it has none.
    """

    code: int
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset (RST) when a share of the body was sent."""

    at: float = 0.5


@dataclass(frozen=True, slots=True)
class Close:
    """The connection is closed (FIN) when a share of the body was sent; Content-Length promised all of it."""

    at: float = 0.5


@dataclass(frozen=True, slots=True)
class Short:
    """A share of the body is all that is sent, and Content-Length and Content-Range agree with it."""

    at: float = 0.5


@dataclass(frozen=True, slots=True)
class Flip:
    """One byte of the body, which lies at a share of it, has all its bits turned over."""

    at: float = 0.5


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing comes for so many seconds when a share of the body was sent."""

    seconds: float
    at: float = 0.5


@dataclass(frozen=True, slots=True)
class Slow:
    """The body comes at so many bytes a second, and what was sent was also taken, but for little."""

    rate: float


@dataclass(frozen=True, slots=True)
class Labelled:
    """The answer says that it is of another generation than it is; '': it says nothing of one."""

    generation: str


Spoiled = Reset | Close | Short | Flip | Stall
Fault = Wait | Replace | Status | Slow | Labelled | Spoiled


@dataclass(frozen=True, slots=True)
class _Rule:
    fault: Fault
    of: str
    nth: frozenset[int]
    share: float
    seed: int
    listing: bool

    def applies(self, seen: Seen) -> bool:
        if self.listing != seen.listing or not fnmatch.fnmatchcase(seen.name, self.of):
            return False
        if self.nth and seen.nth not in self.nth:
            return False
        return random.Random(f"{self.seed} {seen.name} {seen.nth}").random() < self.share


# What was asked and answered


@dataclass(slots=True)
class Seen:
    """One request.

    Attributes:
        bucket: that it named.
        name: the object; '' for a listing.
        nth: it was the n-th read of its object, or listing of its bucket.
        came: when, in seconds of `time.monotonic`.
        status: of the answer; 0 while there is none.
        generation: of the object that was asked for; '' where none was.
        span: begin and end of the bytes that were asked for, as far as they exist; None where all were.
        sent: bytes of the body that went out.
    """

    bucket: str
    name: str
    nth: int
    came: float
    status: int = 0
    generation: str = ""
    span: tuple[int, int] | None = None
    sent: int = 0

    @property
    def listing(self) -> bool:
        return not self.name


class Proxy:
    """A running proxy.

    Attributes:
        url: the value for STORAGE_EMULATOR_HOST.
        seen: the requests in their order.
        admits: whether a request with this Authorization may be answered; others are 401.
        turned_away: requests that were not.
        handshakes: of TLS, where it is spoken.
        connections: how many were made.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.seen = list[Seen]()
        self.admits: Callable[[str], bool] = lambda _: True
        self.turned_away = 0
        self.handshakes = 0
        self.connections = 0
        self.closing = threading.Event()
        self._address = urllib.parse.urlsplit(target).netloc
        self._rules = list[_Rule]()
        self._lock = threading.Lock()
        self._counts = Counter[tuple[str, str]]()
        #: Held while an object is replaced, and from the look at its generation until its bytes begin to come.
        self.still = threading.Lock()

    def inject(
        self,
        fault: Fault,
        of: str = "*",
        *,
        nth: Collection[int] = (),
        share: float = 1.0,
        seed: int = 0,
        listing: bool = False,
    ) -> None:
        """From now on a fault happens.

        Args:
            fault: which one.
            of: to objects whose names match, with `*` and `?`.
            nth: to their n-th reads, counted from 1; to all where it is empty.
            share: to each of these with this probability,
            seed: which decides the same way each time for the same object and n.
            listing: to listings instead of reads.
        """
        with self._lock:
            self._rules.append(_Rule(fault, of, frozenset(nth), share, seed, listing))

    def heal(self) -> None:
        """Nothing goes wrong from now on."""
        with self._lock:
            self._rules.clear()

    def reads(self, of: str = "*") -> list[Seen]:
        """The reads of objects whose names match."""
        with self._lock:
            return [seen for seen in self.seen if not seen.listing and fnmatch.fnmatchcase(seen.name, of)]

    def listings(self) -> list[Seen]:
        """The listings, one for each page."""
        with self._lock:
            return [seen for seen in self.seen if seen.listing]

    def sent(self, of: str = "*") -> int:
        """Bytes that were sent of objects whose names match."""
        return sum(seen.sent for seen in self.reads(of))

    def note(self, bucket: str, name: str) -> tuple[Seen, list[Fault]]:
        """Counts a request; gives what is to go wrong with it."""
        with self._lock:
            self._counts[bucket, name] += 1
            seen = Seen(bucket, name, self._counts[bucket, name], time.monotonic())
            self.seen.append(seen)
            return seen, [rule.fault for rule in self._rules if rule.applies(seen)]

    def connected(self) -> None:
        """Counts a connection."""
        with self._lock:
            self.connections += 1

    @contextlib.contextmanager
    def asked(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """The emulator's answer."""
        connection = http.client.HTTPConnection(self._address, timeout=_PATIENCE)
        try:
            connection.request(method, path, body, dict(headers or {}))
            yield connection.getresponse()
        finally:
            connection.close()

    def replace(self, bucket: str, name: str, content: bytes) -> None:
        """Writes an object, which gets another generation."""
        query = urllib.parse.urlencode({"uploadType": "media", "name": name})
        headers = {"Content-Type": "application/octet-stream"}
        with self.still, self.asked("POST", f"/upload/storage/v1/b/{bucket}/o?{query}", content, headers) as answer:
            assert answer.status == 200, answer.read()
            answer.read()

    def count_handshake(self) -> None:
        with self._lock:
            self.handshakes += 1

    def admitted(self, authorization: str) -> bool:
        """Whether it may be answered; counts those that may not."""
        if self.admits(authorization):
            return True
        with self._lock:
            self.turned_away += 1
        return False


@contextlib.contextmanager
def proxy(target: str, context: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A proxy in front of an emulator's URL; it speaks HTTPS where there is a context for it."""
    made = Proxy(target)

    class Passing(_Passing):
        proxy = made

    with serving(Passing, context) as made.url:
        try:
            yield made
        finally:
            made.closing.set()


class _Refused(Exception):
    """An error is the answer."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers or {}


class _Passing(Answering):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    proxy: Proxy
    slow: Slow | None
    labelled: Labelled | None

    def handle(self) -> None:
        self.proxy.connected()
        with contextlib.suppress(OSError):  # the client has gone, or was thrown out
            super().handle()

    def shook_hands(self) -> None:
        self.proxy.count_handshake()

    def do_GET(self) -> None:
        if not self.proxy.admitted(self.headers.get("Authorization", "")):
            self._refuse(_Refused(401, "Invalid Credentials"))
            return
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        if found := _LIST.fullmatch(path):
            self._handle(found["bucket"], "", functools.partial(self._list, asked))
        elif (found := _OBJECT.fullmatch(path)) and (found["download"] or asked.get("alt") == "media"):
            self._handle(found["bucket"], urllib.parse.unquote(found["name"]), functools.partial(self._read, asked))
        elif not found and "/o/" in path:  # a slash in an object's name is written %2F; the emulator takes any
            self._refuse(_Refused(404, "Not Found"))
        else:
            self._pass_on(asked, found)

    def _handle(self, bucket: str, name: str, answer: Any) -> None:
        """Notes a request, lets happen what is to happen to it, and answers."""
        seen, faults = self.proxy.note(bucket, name)
        spoiled = [fault for fault in faults if isinstance(fault, Spoiled)]
        self.slow = next((fault for fault in faults if isinstance(fault, Slow)), None)
        self.labelled = next((fault for fault in faults if isinstance(fault, Labelled)), None)
        try:
            for fault in faults:
                self._suffer(fault, seen)
            answer(seen, spoiled[0] if spoiled else None)
        except _Refused as error:
            seen.status = error.status
            self._refuse(error)

    def _suffer(self, fault: Fault, seen: Seen) -> None:
        if isinstance(fault, Wait):
            self.proxy.closing.wait(fault.seconds)
        elif isinstance(fault, Replace):
            self.proxy.replace(seen.bucket, seen.name, fault.content)
        elif isinstance(fault, Status):
            after = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            raise _Refused(fault.code, "told to refuse", after)

    # Listings

    def _list(self, asked: dict[str, str], seen: Seen, spoiled: Spoiled | None) -> None:
        """One page, of what follows the last name of the page before."""
        token, fields = asked.pop("pageToken", ""), asked.pop("fields", "")
        with self.proxy.asked("GET", f"/storage/v1/b/{seen.bucket}/o?{urllib.parse.urlencode(asked)}") as answer:
            found = _json(answer)
        after, paged = base64.urlsafe_b64decode(token).decode(), not fields or "nextPageToken" in fields
        items = sorted((item for item in found.get("items", []) if item["name"] > after), key=lambda item: item["name"])
        page = items[: min(int(asked.get("maxResults", _PAGE)), _PAGE)]
        said: dict[str, Any] = {"kind": "storage#objects", "items": [_narrowed(item, fields) for item in page]}
        if len(page) < len(items) and paged:
            said["nextPageToken"] = base64.urlsafe_b64encode(page[-1]["name"].encode()).decode()
        body = json.dumps(said).encode()
        cut = int(len(body) * spoiled.at) if spoiled else len(body)
        seen.status = 200
        self._head(
            200, {"Content-Type": _JSON, "Content-Length": str(cut if isinstance(spoiled, Short) else len(body))}
        )
        self._send(body[:cut], seen)
        if not self._broken(spoiled):
            self._send(body[cut:], seen)

    # Objects

    def _read(self, asked: Mapping[str, str], seen: Seen, spoiled: Spoiled | None) -> None:
        """An object's bytes, or some of them."""
        with contextlib.ExitStack() as stack:
            with self.proxy.still:
                seen.generation = asked.get("generation", "")
                about = self._about(asked, seen.bucket, seen.name)
                size = int(about["size"])
                seen.span = _span(self.headers.get("Range"), size)
                begin, end = seen.span or (0, size)
                cut = begin + int((end - begin) * spoiled.at) if spoiled else end
                source = stack.enter_context(self._bytes(seen, begin, cut))
            seen.status = 206 if seen.span else 200
            headers = _headers(about, begin, cut if isinstance(spoiled, Short) else end, seen.span)
            if self.labelled:
                headers["x-goog-generation"] = self.labelled.generation
            self._head(seen.status, {name: value for name, value in headers.items() if value})
            self._copy(source, cut - begin, seen)
        if not self._broken(spoiled) and cut < end:
            self._go_on(seen, (cut, end), about["generation"], flip=isinstance(spoiled, Flip))

    def _go_on(self, seen: Seen, span: tuple[int, int], generation: str, *, flip: bool) -> None:
        """The rest of a body. The emulator has only the newest bytes: where these are others, the connection ends."""
        with contextlib.ExitStack() as stack:
            with self.proxy.still:
                if self._about({}, seen.bucket, seen.name)["generation"] != generation:
                    self._reset()
                    return
                source = stack.enter_context(self._bytes(seen, *span))
            self._copy(source, span[1] - span[0], seen, flip)

    def _about(self, asked: Mapping[str, str], bucket: str, name: str) -> dict[str, Any]:
        """What the emulator knows about an object.

        Raises:
            _Refused: there is none, or another one than was asked for.
        """
        with self.proxy.asked("GET", f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}") as answer:
            about = _json(answer)
        if asked.get("generation", about["generation"]) != about["generation"]:
            raise _Refused(404, f"No such object: {bucket}/{name}")
        if asked.get("ifGenerationMatch", about["generation"]) != about["generation"]:
            raise _Refused(412, "At least one of the pre-conditions you specified did not hold.")
        return about

    @contextlib.contextmanager
    def _bytes(self, seen: Seen, begin: int, end: int) -> Iterator[http.client.HTTPResponse | None]:
        """Some of an object's bytes as they come; None for none."""
        if begin == end:
            yield None
            return
        path = f"/download/storage/v1/b/{seen.bucket}/o/{urllib.parse.quote(seen.name, safe='')}?alt=media"
        with self.proxy.asked("GET", path, headers={"Range": f"bytes={begin}-{end - 1}"}) as answer:
            assert answer.status == 206, answer.status
            yield answer

    def _copy(self, source: http.client.HTTPResponse | None, nbytes: int, seen: Seen, flip: bool = False) -> None:
        """Passes bytes on. The first one is damaged on request.

        The source is read to its end in any case: the emulator does one thing at a time.
        """
        gone: OSError | None = None
        if self.slow and source:
            self._trickle(source.read(nbytes), self.slow.rate, seen)
            return
        while nbytes and source:
            chunk = source.read(min(nbytes, _CHUNK))
            if not chunk:
                raise ConnectionAbortedError("the emulator has gone")
            nbytes -= len(chunk)
            if flip:
                chunk, flip = bytes([chunk[0] ^ 0xFF]) + chunk[1:], False
            try:
                if not gone:
                    self._send(chunk, seen)
            except OSError as error:
                gone = error
        if gone:
            raise gone

    def _trickle(self, body: bytes, rate: float, seen: Seen) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CHUNK)
        begin = time.monotonic()
        for at in range(0, len(body), _CHUNK):
            self.proxy.closing.wait(max(begin + at / rate - time.monotonic(), 0))
            self._send(body[at : at + _CHUNK], seen)

    def _pass_on(self, asked: Mapping[str, str], found: re.Match[str] | None) -> None:
        """Everything else: what is known about a bucket or an object."""
        try:
            if found:
                self._about(asked, found["bucket"], urllib.parse.unquote(found["name"]))
            with self.proxy.asked("GET", self.path) as answer:
                self.answer(answer.status, answer.read(), answer.headers.get("Content-Type", _JSON))
        except _Refused as error:
            self._refuse(error)

    # The wire

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, data: bytes, seen: Seen) -> None:
        seen.sent += len(data)  # before whoever gets it can ask how much that was
        try:
            self.wfile.write(data)
        except OSError:
            seen.sent -= len(data)
            raise

    def _broken(self, spoiled: Spoiled | None) -> bool:
        """Does what a fault does in the middle of a body; True where nothing follows."""
        if isinstance(spoiled, Stall):
            self.proxy.closing.wait(spoiled.seconds)
        elif isinstance(spoiled, Reset):
            self._reset()
        elif isinstance(spoiled, Close):
            self.close_connection = True
        return isinstance(spoiled, Reset | Close | Short)

    def _reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def _refuse(self, error: _Refused) -> None:
        body = json.dumps({"error": {"code": error.status, "message": error.reason}}).encode()
        self._head(error.status, {"Content-Type": _JSON, "Content-Length": str(len(body)), **error.headers})
        self.wfile.write(body)


def _json(answer: http.client.HTTPResponse) -> dict[str, Any]:
    body = answer.read()
    if answer.status != 200:
        raise _Refused(answer.status, answer.reason)
    found: dict[str, Any] = json.loads(body)
    return found


def _narrowed(item: Mapping[str, Any], fields: str) -> dict[str, Any]:
    """The fields of a listed object that `items(a,b)` asks for; all of them where it asks for none."""
    asked = re.search(r"items\(([^)]*)\)", fields)
    return {key: value for key, value in item.items() if not asked or key in asked[1].split(",")}


def _span(asked: str | None, size: int) -> tuple[int, int] | None:
    """Begin and end of a range; None: there is none, or none that can be understood.

    Raises:
        _Refused: it lies outside of the object.
    """
    found = _RANGE.fullmatch((asked or "").strip())
    if not found or not (found["begin"] or found["last"]):
        return None
    if found["begin"]:
        begin, end = int(found["begin"]), min(int(found["last"] or size), size - 1) + 1
        if found["last"] and int(found["last"]) < begin:
            return None
    else:
        begin, end = max(0, size - int(found["last"])), size
    if begin >= size:
        raise _Refused(416, "The requested range cannot be satisfied.", {"Content-Range": f"bytes */{size}"})
    return begin, end


def _headers(about: Mapping[str, Any], begin: int, end: int, span: tuple[int, int] | None) -> dict[str, str]:
    """Those of an answer with bytes. Checksums are of the whole object, whatever part of it comes."""
    headers = {
        "Content-Type": about.get("contentType") or "application/octet-stream",
        "Content-Length": str(end - begin),
        "Accept-Ranges": "bytes",
        "x-goog-hash": f"crc32c={about['crc32c']},md5={about['md5Hash']}",
        "x-goog-generation": about["generation"],
        "x-goog-stored-content-length": str(about["size"]),
        "x-goog-stored-content-encoding": about.get("contentEncoding") or "identity",
    }
    if about.get("contentEncoding"):
        headers["Content-Encoding"] = about["contentEncoding"]
    if span:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{about['size']}"
    return headers
