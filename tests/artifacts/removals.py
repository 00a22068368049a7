"""How each protection of the download is taken away, for tests that must fail without it (protections.py).

A pytest plugin: `LISTENER_TESTS_WITHOUT="the checksum" pytest -p tests.artifacts.removals ...` takes protections away
from the process of the tests, and starter.py and dying.py do so in those that fetch. None of this is in the product.
"""

from __future__ import annotations

import http.client
import os
import re
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import requests
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError

from listener.artifacts import bucket, checksum, cloud, fetch, journal, obstacles, parts, reading, store, transfers
from listener.artifacts.bucket import Bucket, Item
from listener.artifacts.parts import Mark, Span
from listener.artifacts.patience import Again, Patience
from listener.artifacts.reading import Media, Refused
from listener.artifacts.store import Store
from listener.artifacts.transfers import File

#: Names of protections, with this between them.
VARIABLE, BETWEEN = "LISTENER_TESTS_WITHOUT", ";"
_CLOUD: Any = cloud
_PASSING = (408, 429, 500, 502, 503, 504)


def apply() -> None:
    """Takes away what the environment names, from this process."""
    for name in filter(None, os.environ.get(VARIABLE, "").split(BETWEEN)):
        REMOVALS[name]()


def pytest_configure() -> None:
    apply()


def _put(owner: Any, name: str, new: Any) -> Any:
    """Puts something in the place of what has to be there. Returns that."""
    old = getattr(owner, name)
    setattr(owner, name, new)
    return old


class _Any:
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


# Trying again


def _give_up_at(reason: str) -> None:
    """A read is not repeated where the reason begins like this."""

    def wait(self: Patience, again: Again) -> Any:
        if re.match(reason, str(again)):
            raise again
        return float(kept(self, again))

    kept: Any = _put(Patience, "wait", wait)


def _listing_gives_up(at: Callable[[Exception], bool]) -> None:
    kept: Any = _put(obstacles, "passes", lambda error: kept(error) and not at(error))


def _listing_repeats_refusals() -> None:
    refusals = (GoogleAuthError, api.Forbidden)
    kept: Any = _put(obstacles, "passes", lambda error: kept(error) or isinstance(error, refusals))


def _reads_repeat(*codes: int) -> None:
    """What is no reason for another try is one."""

    def failure(self: Media, response: http.client.HTTPResponse) -> Exception:
        found = kept(self, response)
        return Again(str(found)) if isinstance(found, Refused) and found.status in codes else found

    kept: Any = _put(Media, "_failure", failure)


def _refuse_reads_at(code: int) -> None:
    """A status is one like any other."""
    _put(reading, "_REPLACED", reading._REPLACED - {code})


def _wait(new: Callable[[float, Again], float]) -> None:
    """Another wait, from that which is right and the reason for it."""
    kept: Any = _put(Patience, "wait", lambda self, again: new(kept(self, again), again))


def _without_hearing() -> None:
    kept: Any = _put(Patience, "wait", lambda self, again: kept(self, Again(str(again))))


def _without_end() -> None:
    def wait(self: Patience, again: Again) -> Any:
        self._limit = float("inf")
        return float(kept(self, again))

    kept: Any = _put(Patience, "wait", wait)


def _listings_without_end() -> None:
    kept: Any = _put(Retry, "with_timeout", lambda self, seconds: kept(self, None))


# What comes


def _without_length_of_answers() -> None:
    def checked(self: Media, response: http.client.HTTPResponse, item: Item, span: Span) -> int:
        if response.status not in (200, 206):
            raise self._failure(response)
        if response.getheader("x-goog-generation") not in (None, str(item.generation)):
            raise reading.Replaced
        return span.start if response.status == 200 else 0

    _put(Media, "_checked", checked)


def _without_count() -> None:
    """Whatever one answer brought, it was all."""

    def read(self: cloud.Cloud, place: Bucket, item: Item, span: Span, stopped: object) -> Iterator[Any]:
        with self._told(place, ""):
            yield from self._media.blocks(place.name, item, span)

    _put(cloud.Cloud, "read", read)


def _without_asking_for_generation(of: str = "") -> None:
    """Of reads alone that have a Range, where that is said."""

    def request(self: Any, method: str, url: str, body: Any = None, headers: Any = None, **more: Any) -> None:
        if not of or of in (headers or {}):
            url = re.sub(r"&generation=\d+", "", url)
        kept(self, method, url, body, headers or {}, **more)

    kept: Any = _put(http.client.HTTPConnection, "request", request)


def _without_generation_of_answers() -> None:
    def getheader(self: http.client.HTTPResponse, name: str, default: Any = None) -> Any:
        return default if name == "x-goog-generation" else kept(self, name, default)

    kept: Any = _put(http.client.HTTPResponse, "getheader", getheader)


def _half_json() -> None:
    """Of a listing that is cut short, what is whole is taken."""

    def json(self: requests.Response, **more: Any) -> Any:
        try:
            return kept(self, **more)
        except requests.JSONDecodeError:
            return orjson.loads(self.text.rpartition("}, {")[0] + "}]}")

    kept: Any = _put(requests.Response, "json", json)


def _without_verifying() -> None:
    _put(File, "_checksum", lambda self, span: _Any())


def _without_taking_over() -> None:
    def verified(self: File) -> list[Mark]:
        os.ftruncate(self._descriptor, 0)
        return []

    _put(File, "_verified", verified)


def _journal_without_sums() -> None:
    """Each line gets the right one before it is looked at."""

    def read(text: bytes) -> Any:
        found = [line.partition(b" ")[2] for line in text.splitlines()]
        return kept(b"\n".join(b"%08x %s" % (zlib.crc32(fields), fields) for fields in found))

    kept: Any = _put(journal, "_read", read)


def _cut_that_loses() -> None:
    kept: Any = _put(parts, "cut", lambda span, part: kept(span, part)[: max(len(kept(span, part)) - 1, 1)])


def _cut_that_overlaps() -> None:
    def cut(span: Span, part: int) -> list[Span]:
        first, *others = kept(span, part)
        return [first, *(Span(other.start - 1, other.stop) for other in others)]

    kept: Any = _put(parts, "cut", cut)


# Where it goes


def _half_published() -> None:
    """What is fetched has its name from the beginning."""

    def partial(self: Store, digest: str) -> Path:
        self.published(digest).mkdir(parents=True, exist_ok=True)
        return self.published(digest)

    _put(Store, "partial", partial)
    _put(Store, "publish", Store.published)
    _put(Store, "tells_case_apart", lambda self, digest: True)


def _without_lock() -> None:
    _put(store, "fcntl", types.SimpleNamespace(flock=lambda descriptor, kind: None, LOCK_EX=0, LOCK_SH=0, LOCK_NB=0))


def _without(*names: str) -> None:
    """Google's exceptions of these names are not told from the others."""
    never = type("Never", (Exception,), {})
    assert all(hasattr(api, name) for name in names)
    _put(cloud, "api", types.SimpleNamespace(**vars(api) | dict.fromkeys(names, never)))


def _lost(error: Exception) -> bool:
    return not isinstance(error, api.GoogleAPICallError)


def _passes(error: Exception) -> bool:
    return getattr(error, "code", None) in _PASSING


REMOVALS: dict[str, Callable[[], Any]] = {
    "another read after 408, 429, 5xx": lambda: _give_up_at(r"\d{3} "),
    "another listing after 408, 429, 5xx": lambda: _listing_gives_up(_passes),
    "another read after a lost connection": lambda: _give_up_at("the connection was lost"),
    "another listing after a lost connection": lambda: _listing_gives_up(_lost),
    "waits that grow": lambda: _wait(lambda seconds, again: 0.001),
    "Retry-After is heard": _without_hearing,
    "Retry-After has a bound": lambda: _wait(lambda seconds, again: max(seconds, again.after)),
    "patience of reads ends": _without_end,
    "patience of listings ends": _listings_without_end,
    "patience begins anew with progress": lambda: _put(Patience, "progressed", lambda self: None),
    "silence has a limit": lambda: _put(reading, "_SILENCE", 1e6),
    "silence may last": lambda: _put(reading, "_SILENCE", 1.0),
    "401 and 403 are no reason for another read": lambda: _reads_repeat(401, 403),
    "401 and 403 are no reason for another listing": _listing_repeats_refusals,
    "a sentence for 401 and 403": lambda: _put(cloud.Cloud, "_refused", lambda self: "cannot be fetched"),
    "403 of a listing is told apart": lambda: _without("Unauthorized", "Forbidden"),
    "no such bucket is told apart": lambda: _without("NotFound"),
    "404 of a read means another state": lambda: _refuse_reads_at(404),
    "other statuses are no reason for another read": lambda: _reads_repeat(400, 418),
    "pages are followed": lambda: _put(cloud, "_FIELDS", cloud._FIELDS.replace(",nextPageToken", "")),
    "a listing is whole JSON": _half_json,
    "the length of an answer": _without_length_of_answers,
    "what came is counted": _without_count,
    "the checksum": lambda: _put(checksum, "from_listing", lambda text: None),
    "another transfer of what is damaged": lambda: _put(transfers, "_ATTEMPTS", 1),
    "at most three transfers of what is damaged": lambda: _put(transfers, "_ATTEMPTS", 10**9),
    "the generation is asked for": _without_asking_for_generation,
    "the generation is asked for in spans": lambda: _without_asking_for_generation("Range"),
    "the generation of an answer": _without_generation_of_answers,
    "another listing after a replacement": lambda: _put(fetch, "_LISTINGS", 1),
    "at most three listings": lambda: _put(fetch, "_LISTINGS", 10**9),
    "parts leave nothing out": _cut_that_loses,
    "parts do not overlap": _cut_that_overlaps,
    "the journal": lambda: _put(journal.Journal, "note", lambda self, path, mark: None),
    "what is there is taken over": _without_taking_over,
    "what is there is verified": _without_verifying,
    "sums of the journal's lines": _journal_without_sums,
    "a name for what is whole alone": _half_published,
    "the lock": _without_lock,
    "room on the disk": lambda: _put(fetch, "_require_room", lambda *about: None),
    "paths stay inside": lambda: _put(bucket, "_checked", lambda path, place, name: path.lstrip("/") or "x"),
    "no file is a folder as well": lambda: _put(bucket, "_refuse_files_as_folders", lambda *about: None),
    "names that differ in case": lambda: _put(bucket, "refuse_twins", lambda *about: None),
    "links are not followed": lambda: _put(os, "O_NOFOLLOW", 0),
}
