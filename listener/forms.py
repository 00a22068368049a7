"""What a setting's text has to look like: from text to value, or a ValueError that ends the sentence "'text' ..."."""

from __future__ import annotations

import re
import shlex
import urllib.parse
from collections.abc import Callable
from typing import Literal, TypeVar

N = TypeVar("N", int, float)

MIB = 1024 * 1024
#: Bucket names: https://cloud.google.com/storage/docs/buckets#naming
_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?", re.DOTALL)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: How the platform writes a variable in `args` and `env`; one that it does not know stays as it is.
_REFERENCE = re.compile(r"\$\([A-Za-z_]\w*\)")
#: As many as suit the CPUs.
AUTO: Literal["auto"] = "auto"


def _between(convert: Callable[[str], N], wrong: str, low: N, high: N, unit: str = "") -> Callable[[str], N]:
    """What `convert` makes of a text, within bounds; `wrong` is said of what it makes nothing of."""

    def parse(text: str) -> N:
        try:
            value = convert(text)
        except ValueError:
            raise ValueError(wrong) from None
        if not low <= value <= high:
            raise ValueError(f"is not between {low} and {high}{unit}")
        return value

    return parse


def integer(low: int, high: int, wrong: str = "is not a whole number") -> Callable[[str], int]:
    return _between(int, wrong, low, high)


def number(low: float, high: float) -> Callable[[str], float]:
    return _between(float, "is not a number", low, high)


def seconds(low: float, high: float) -> Callable[[str], float]:
    return _between(lambda text: float(text.removesuffix("s")), "is not a number of seconds", low, high, " seconds")


def number_or_auto(low: int, high: int, wrong: str = "is not a whole number") -> Callable[[str], int | Literal["auto"]]:
    whole = integer(low, high, wrong)
    return lambda text: AUTO if text.lower() == AUTO else whole(text)


count = number_or_auto(1, 256, "is neither 'auto' nor a whole number")


def share(text: str) -> float:
    """More than nothing, and up to 1."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError("is not a number such as 0.75") from None
    if not 0 < value <= 1:
        raise ValueError("is not above 0 and at most 1")
    return value


def size(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number, unit = text.strip(), 1
        for suffix, factor in (("KiB", 1024), ("MiB", MIB), ("GiB", 1024 * MIB), ("K", 1024), ("M", MIB)):
            if number.endswith(suffix):
                number, unit = number.removesuffix(suffix).strip(), factor
                break
        if not number.isdecimal():
            raise ValueError("is not a size such as 12582912 or 12MiB")
        value = int(number) * unit
        if not low <= value <= high:
            raise ValueError(f"is not between {low} and {high} bytes")
        return value

    return parse


def flag(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("is neither true nor false")


def choice(*known: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in known:
            raise ValueError(f"is not one of {', '.join(known)}")
        return text.lower()

    return parse


def route(text: str) -> str:
    if (
        not text.startswith("/")
        or not text.isascii()
        or any(c.isspace() or not c.isprintable() or c in "?#" for c in text)
    ):
        raise ValueError("is not a path: it starts with '/', is ASCII and has no blanks, '?' or '#'")
    return text


def http_url(text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urllib.parse.urlsplit(url)
        complete = parts.scheme == "http" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        complete = False
    if not complete:
        raise ValueError("is not an http URL with host and port, such as http://127.0.0.1:8000")
    return f"http://{parts.netloc}"


def is_here(url: str) -> bool:
    """Whether a URL is one of this machine."""
    return urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def arguments(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"cannot be split into arguments: {error}") from None


def place(text: str) -> str:
    if reference := _REFERENCE.search(text):
        raise ValueError(f"holds {reference[0]}, which the platform has not replaced by a value")
    if _SCHEME.match(text) and not _BUCKET.fullmatch(text):
        raise ValueError(
            "is neither a folder nor gs://BUCKET or gs://BUCKET/PREFIX, with a bucket's name of 3 or more lower-case "
            "letters, digits, '-', '_' and '.'"
        )
    return text


def names(text: str) -> frozenset[str]:
    return frozenset(name for word in text.split(",") if (name := word.strip()))


LEVEL = choice("debug", "info", "warning", "error")
