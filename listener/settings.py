"""Every setting: its variable, default, help text and the check of its value. Nobody else reads the environment.

`Settings` is the table. `listener COMMAND --help` prints it, docs/reference/settings.md is held against it by a test,
and `python -m listener settings` lists it.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import shlex
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from listener.errors import ConfigError

MIB = 1024 * 1024
T = TypeVar("T")
#: As many workers as suit the CPUs.
AUTO: Literal["auto"] = "auto"


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError("is not a whole number") from None
        if not low <= value <= high:
            raise ValueError(f"is not between {low} and {high}")
        return value

    return parse


def _workers(text: str) -> int | Literal["auto"]:
    if text.lower() == AUTO:
        return AUTO
    try:
        int(text)
    except ValueError:
        raise ValueError("is neither 'auto' nor a whole number") from None
    return _integer(1, 256)(text)


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text.removesuffix("s"))
        except ValueError:
            raise ValueError("is not a number of seconds") from None
        if not low <= value <= high:
            raise ValueError(f"is not between {low:g} and {high:g} seconds")
        return value

    return parse


def _size(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number, unit = text.strip(), 1
        for suffix, factor in (("KiB", 1024), ("MiB", MIB), ("K", 1024), ("M", MIB)):
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


def _choice(*known: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in known:
            raise ValueError(f"is not one of {', '.join(known)}")
        return text.lower()

    return parse


def _route(text: str) -> str:
    if (
        not text.startswith("/")
        or not text.isascii()
        or any(c.isspace() or not c.isprintable() or c in "?#" for c in text)
    ):
        raise ValueError("is not a path: it starts with '/', is ASCII and has no blanks, '?' or '#'")
    return text


def _http_url(text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urllib.parse.urlsplit(url)
        complete = parts.scheme == "http" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        complete = False
    if not complete:
        raise ValueError("is not an http URL with host and port, such as http://127.0.0.1:8000")
    return f"http://{parts.netloc}"


def _arguments(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"cannot be split into arguments: {error}") from None


def _names(text: str) -> frozenset[str]:
    return frozenset(name for word in text.split(",") if (name := word.strip()))


_LEVEL = _choice("debug", "info", "warning", "error")


def _setting(env: str, default: T, parse: Callable[[str], T], help: str) -> T:
    field: T = dataclasses.field(default=default, metadata={"env": env, "parse": parse, "help": help})
    return field


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one process, checked. Sizes are bytes, times are seconds."""

    host: str = _setting(
        "LISTENER_HOST",
        "0.0.0.0",
        str,
        "Address to listen on. The platform demands 0.0.0.0; on a laptop use 127.0.0.1.",
    )
    port: int = _setting("AIP_HTTP_PORT", 8080, _integer(0, 65535), "Port to listen on; the platform sets it.")
    predict_route: str = _setting("AIP_PREDICT_ROUTE", "/predict", _route, "Path of predictions; the platform sets it.")
    health_route: str = _setting(
        "AIP_HEALTH_ROUTE", "/health", _route, "Path of the health check; the platform sets it."
    )
    service: str = _setting("LISTENER_SERVICE", ".", str, "Folder of the service: the one with listener.yaml.")
    triton_url: str = _setting(
        "LISTENER_TRITON_URL",
        "http://127.0.0.1:8000",
        _http_url,
        "Where `serve` finds Triton and `triton` makes it listen; `up` picks a free port instead.",
    )
    triton_bin: str = _setting(
        "LISTENER_TRITON_BIN", "", str, "The tritonserver to start; default: the one on PATH, else the embedded one."
    )
    triton_args: tuple[str, ...] = _setting(
        "LISTENER_TRITON_ARGS", (), _arguments, "Further tritonserver arguments, as on a command line."
    )
    triton_exit_timeout: float = _setting(
        "LISTENER_TRITON_EXIT_TIMEOUT",
        5.0,
        _seconds(0, 300),
        "How long Triton may finish its work when stopped; after that and 3 s more it is killed.",
    )
    workers: int | Literal["auto"] = _setting(
        "LISTENER_WORKERS",
        1,
        _workers,
        "Worker processes that share the port; auto: one for every 4 CPUs, at least one.",
    )
    threads: int = _setting(
        "LISTENER_THREADS", 2, _integer(1, 256), "Threads per worker for hooks of handlers that are plain `def`."
    )
    max_body: int = _setting(
        "LISTENER_MAX_BODY",
        12 * MIB,
        _size(1024, 64 * MIB),
        "Largest request body, such as 12MiB; batch jobs with pictures need more than online requests.",
    )
    max_requests: int = _setting(
        "LISTENER_MAX_REQUESTS",
        2048,
        _integer(1, 1_000_000),
        "Requests that a worker works on at a time; one more is answered 429.",
    )
    not_coalesced: frozenset[str] = _setting(
        "LISTENER_NOT_COALESCED",
        frozenset(),
        _names,
        "Models, as a,b, whose calls carry one request each; * for all models.",
    )
    timeout: float = _setting(
        "LISTENER_TIMEOUT",
        60.0,
        _seconds(0.001, 3600),
        "Time for one request; the platform's shared endpoint gives 60.",
    )
    drain_timeout: float = _setting(
        "LISTENER_DRAIN_TIMEOUT",
        15.0,
        _seconds(0, 3600),
        "How long running requests may finish after SIGTERM; the platform kills about 30 s after it.",
    )
    log_level: str = _setting("LISTENER_LOG_LEVEL", "info", _LEVEL, "debug, info, warning or error.")
    log_format: str = _setting(
        "LISTENER_LOG_FORMAT",
        "auto",
        _choice("auto", "json", "human"),
        "json, human, or auto: human on a terminal, one JSON object per line elsewhere.",
    )
    triton_log_level: str = _setting("LISTENER_TRITON_LOG_LEVEL", "info", _LEVEL, "The same for the lines of Triton.")

    @property
    def worker_count(self) -> int:
        """Processes that serve. The parent makes a number of `auto`; where there is no parent, there is but one."""
        return 1 if self.workers == "auto" else self.workers

    def coalesces(self, model: str) -> bool:
        """Whether requests for a model may share a call to Triton."""
        return not self.not_coalesced & {model, "*"}

    def local_url(self, path: str) -> str:
        """How this machine reaches its own listener."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{path}"

    def to_env(self) -> dict[str, str]:
        """The variables that make an equal `Settings` in a child process."""
        return {env_name(field): as_text(getattr(self, field.name)) for field in dataclasses.fields(self)}


def env_name(field: dataclasses.Field[Any]) -> str:
    """The environment variable of a field of `Settings`."""
    return str(field.metadata["env"])


def as_text(value: Any) -> str:
    """A setting's value as its variable has it."""
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    return shlex.join(value) if isinstance(value, tuple) else str(value)


def read(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from the environment; command line options, as `overrides`, win. None and '' count as not given.

    Raises:
        ConfigError: with one sentence for each bad value.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = dict(_default_routes(environ))
    mistakes = []
    for field in dataclasses.fields(Settings):
        env = env_name(field)
        given = overrides.get(field.name)
        source, text = (_option(field.name), str(given)) if given not in (None, "") else (env, environ.get(env, ""))
        if text == "":
            continue
        try:
            values[field.name] = field.metadata["parse"](text)
        except ValueError as error:
            mistakes.append(f"{source}: {text!r} {error}")
    if mistakes:
        raise ConfigError(*mistakes)
    return Settings(**values)


def terminal_has_colours() -> bool:
    """What NO_COLOR and TERM say of a terminal."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def misspelt(environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each LISTENER_* variable that is nearly a setting.

    Other unknown ones pass in silence: Kubernetes puts LISTENER_PORT and the like into the environment of every pod
    beside a Service of that name.
    """
    environ = os.environ if environ is None else environ
    known = {env_name(field) for field in dataclasses.fields(Settings)}
    sentences = []
    for name in sorted(set(environ) - known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.88) if name.startswith("LISTENER_") else []
        if near:
            sentences.append(f"{name} is not a setting and has no effect; did you mean {near[0]}?")
    return sentences


def _default_routes(environ: Mapping[str, str]) -> dict[str, str]:
    """The product's default routes (docs/reference/contract.md, "Routes"); none of its variables set means local."""
    if endpoint := environ.get("AIP_ENDPOINT_ID"):
        base = f"/v1/endpoints/{endpoint}/deployedModels/{environ.get('AIP_DEPLOYED_MODEL_ID', '')}"
    elif model := environ.get("AIP_MODEL_NAME"):
        base = f"/v1/models/{model}/versions/{environ.get('AIP_VERSION_NAME', '')}"
    else:
        return {}
    return {"predict_route": f"{base}:predict", "health_route": base}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
