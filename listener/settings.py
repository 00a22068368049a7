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

from listener import cpus, forms
from listener.errors import ConfigError
from listener.forms import MIB

T = TypeVar("T")

#: Kinds of Vertex AI's endpoints, and the seconds that each gives a request unless it is told otherwise
#: (docs/reference/contract.md, "Limits").
ENDPOINTS = {"shared": 60.0, "dedicated": 600.0}
#: Seconds beyond a worker's drain, for closing its server and its handlers.
_WORKER_CLOSE = 5.0
#: Seconds beyond Triton's own exit timeout, for its Python stubs.
_STUBS_END = 3.0


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
    port: int = _setting("AIP_HTTP_PORT", 8080, forms.integer(0, 65535), "Port to listen on; the platform sets it.")
    predict_route: str = _setting(
        "AIP_PREDICT_ROUTE", "/predict", forms.route, "Path of predictions; the platform sets it."
    )
    health_route: str = _setting(
        "AIP_HEALTH_ROUTE", "/health", forms.route, "Path of the health check; the platform sets it."
    )
    service: str = _setting(
        "LISTENER_SERVICE", "", str, "Folder of the service, the one with listener.yaml; default: the current folder."
    )
    repository: str = _setting(
        "LISTENER_REPOSITORY",
        "",
        forms.place,
        "Model repository, or a whole service: a folder or gs://BUCKET/PREFIX. Wins over AIP_STORAGE_URI.",
    )
    storage_uri: str = _setting(
        "AIP_STORAGE_URI", "", forms.place, "The same, as the platform sets it; empty without artefacts."
    )
    artifacts: str = _setting(
        "LISTENER_ARTIFACTS",
        "",
        str,
        "Folder that keeps what was fetched from gs://; default: a temporary one, which goes with the stop.",
    )
    default_model: str = _setting(
        "LISTENER_DEFAULT_MODEL",
        "",
        str,
        "Route or model of requests that name none; wins over `default` in listener.yaml.",
    )
    triton_url: str = _setting(
        "LISTENER_TRITON_URL",
        "http://127.0.0.1:8000",
        forms.http_url,
        "Where `serve` finds Triton and `triton` makes it listen; `up` picks a free port instead.",
    )
    triton_metrics_url: str = _setting(
        "LISTENER_TRITON_METRICS_URL",
        "http://127.0.0.1:8002",
        forms.http_url,
        "Where `serve` finds Triton's metrics; `up` picks a free port instead.",
    )
    metrics_host: str = _setting("LISTENER_METRICS_HOST", "127.0.0.1", str, "Address of /metrics.")
    metrics_port: int = _setting(
        "LISTENER_METRICS_PORT",
        0,
        forms.integer(0, 65535),
        "Port of /metrics, ours and Triton's in one scrape; 0: none.",
    )
    triton_bin: str = _setting(
        "LISTENER_TRITON_BIN", "", str, "The tritonserver to start; default: the one on PATH, else the embedded one."
    )
    triton_args: tuple[str, ...] = _setting(
        "LISTENER_TRITON_ARGS", (), forms.arguments, "Further tritonserver arguments, as on a command line."
    )
    triton_exit_timeout: float = _setting(
        "LISTENER_TRITON_EXIT_TIMEOUT",
        5.0,
        forms.seconds(0, 300),
        "How long Triton may finish its work when stopped; after that and 3 s more it is killed.",
    )
    workers: int | Literal["auto"] = _setting(
        "LISTENER_WORKERS",
        1,
        forms.count,
        "Worker processes that share the port; auto: one for every 4 CPUs, at least one.",
    )
    threads: int | Literal["auto"] = _setting(
        "LISTENER_THREADS",
        forms.AUTO,
        forms.count,
        "Threads per worker for hooks of handlers that are plain `def`; auto: as many as CPUs, at least two.",
    )
    processes: int | Literal["auto"] = _setting(
        "LISTENER_PROCESSES",
        forms.AUTO,
        forms.count,
        "Processes per worker for hooks with `offload: process`; auto: each worker's share of the CPUs, at least one.",
    )
    max_body: int = _setting(
        "LISTENER_MAX_BODY",
        12 * MIB,
        forms.size(1024, 64 * MIB),
        "Largest request body, such as 12MiB; batch jobs with pictures need more than online requests.",
    )
    compress_from: int = _setting(
        "LISTENER_COMPRESS_FROM",
        64 * 1024,
        forms.size(0, 1024 * MIB),
        "Answers of predictions from this size on are compressed for clients that accept gzip or deflate.",
    )
    max_requests: int = _setting(
        "LISTENER_MAX_REQUESTS",
        2048,
        forms.integer(1, 1_000_000),
        "Requests that a worker works on at a time; one more waits (LISTENER_QUEUE) or is answered 429.",
    )
    queue: int | Literal["auto"] = _setting(
        "LISTENER_QUEUE",
        forms.AUTO,
        forms.number_or_auto(0, 1_000_000),
        "Requests that wait until one of those is done; auto: a quarter of their number.",
    )
    max_bytes: int = _setting(
        "LISTENER_MAX_BYTES",
        512 * MIB,
        forms.size(1024, 1024 * 1024 * MIB),
        "Bytes of the bodies of the requests that a worker works on, such as 512MiB; more wait or are answered 429.",
    )
    route_share: float = _setting(
        "LISTENER_ROUTE_SHARE",
        0.75,
        forms.share,
        "Part of LISTENER_MAX_REQUESTS that one route may have where there are several; 1: all.",
    )
    client_share: float = _setting(
        "LISTENER_CLIENT_SHARE",
        1.0,
        forms.share,
        "Part of LISTENER_MAX_REQUESTS that one client's address may have; behind a proxy all come from one.",
    )
    not_coalesced: frozenset[str] = _setting(
        "LISTENER_NOT_COALESCED",
        frozenset(),
        forms.names,
        "Models, as a,b, whose calls carry one request each; * for all models.",
    )
    busy_wait: float = _setting(
        "LISTENER_BUSY_WAIT",
        0.0005,
        forms.seconds(0, 0.01),
        "Calls to Triton shorter than this are waited for awake; 0 saves the CPU and costs latency.",
    )
    endpoint: str = _setting(
        "LISTENER_ENDPOINT",
        "shared",
        forms.choice(*ENDPOINTS),
        "Kind of the Vertex AI endpoint in front, which decides how long a request may take: shared or dedicated.",
    )
    timeout: float = _setting(
        "LISTENER_TIMEOUT",
        60.0,
        forms.seconds(0.001, 3600),
        "Time for one request; 600 with LISTENER_ENDPOINT=dedicated.",
    )
    drain_timeout: float = _setting(
        "LISTENER_DRAIN_TIMEOUT",
        15.0,
        forms.seconds(0, 3600),
        "How long running requests may finish after SIGTERM; the platform kills about 30 s after it.",
    )
    reload: bool = _setting(
        "LISTENER_RELOAD",
        False,
        forms.flag,
        "For development: restart what a saved change of handlers, listener.yaml or models concerns.",
    )
    server_timing: bool = _setting(
        "LISTENER_SERVER_TIMING",
        True,
        forms.flag,
        "Answers say in the header Server-Timing where their time went; with many requests, a part of them.",
    )
    access_log: float = _setting(
        "LISTENER_ACCESS_LOG",
        1.0,
        forms.number(0, 1000),
        "Lines a second, at most, about requests that were answered; 0: none. Refused ones have theirs always.",
    )
    traces: str = _setting(
        "LISTENER_TRACES",
        "",
        forms.choice("otlp", "cloud"),
        "Where spans of requests go: otlp, as OTEL_EXPORTER_OTLP_* say, or cloud, Cloud Trace; default: none are made.",
    )
    trace_share: float = _setting(
        "LISTENER_TRACE_SHARE",
        0.0,
        forms.number(0, 1),
        "Part of the requests without a trace of their caller's that begin one; 0: none.",
    )
    log_level: str = _setting("LISTENER_LOG_LEVEL", "info", forms.LEVEL, "debug, info, warning or error.")
    log_format: str = _setting(
        "LISTENER_LOG_FORMAT",
        "auto",
        forms.choice("auto", "json", "human"),
        "json, human, or auto: human on a terminal, one JSON object per line elsewhere.",
    )
    triton_log_level: str = _setting(
        "LISTENER_TRITON_LOG_LEVEL", "info", forms.LEVEL, "The same for the lines of Triton."
    )

    @property
    def place(self) -> str:
        """Where models, or a service, lie beside the service's own folder; '' = nowhere."""
        return self.repository or self.storage_uri

    @property
    def fetches(self) -> bool:
        """Whether the place is elsewhere, so that something has to be fetched before Triton can start."""
        return self.place.startswith("gs://")

    @property
    def triton_is_here(self) -> bool:
        """Whether Triton runs on this machine."""
        return forms.is_here(self.triton_url)

    @property
    def observes(self) -> bool:
        """Whether anybody is told what requests are counted and measured for."""
        return bool(self.metrics_port or self.server_timing or self.access_log)

    @property
    def worker_patience(self) -> float:
        """Seconds from the signal that stops a worker to SIGKILL."""
        return self.drain_timeout + _WORKER_CLOSE

    @property
    def triton_patience(self) -> float:
        """Seconds from the signal that stops Triton to SIGKILL."""
        return self.triton_exit_timeout + _STUBS_END

    @property
    def worker_count(self) -> int:
        """Processes that serve. The parent makes a number of `auto`; where there is no parent, there is but one."""
        return 1 if self.workers == "auto" else self.workers

    @property
    def thread_count(self) -> int:
        """Threads of each worker for plain hooks; at least two, so that one that waits does not keep the others."""
        return max(2, min(int(cpus.available().number), 256)) if self.threads == "auto" else self.threads

    @property
    def process_count(self) -> int:
        """Processes of each worker for hooks with `offload: process`."""
        if self.processes != "auto":
            return self.processes
        return max(1, min(int(cpus.available().number / self.worker_count), 256))

    def coalesces(self, model: str) -> bool:
        """Whether requests for a model may share a call to Triton."""
        return not self.not_coalesced & {model, "*"}

    @property
    def local_host(self) -> str:
        """The address at which this machine reaches its own listener."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)

    def local_url(self, path: str) -> str:
        """How this machine reaches its own listener."""
        host = self.local_host
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
    if isinstance(value, bool):
        return str(value).lower()
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
    values.setdefault("timeout", ENDPOINTS[values.get("endpoint", "shared")])
    return Settings(**values)


def clashes(configured: Settings) -> list[str]:
    """A sentence for each port that two of the listener, its metrics and the Triton beside it are to have."""
    ports = {"AIP_HTTP_PORT": configured.port, "LISTENER_METRICS_PORT": configured.metrics_port}
    if configured.triton_is_here:
        urls = {
            "LISTENER_TRITON_URL": configured.triton_url,
            "LISTENER_TRITON_METRICS_URL": configured.triton_metrics_url,
        }
        ports |= {name: urllib.parse.urlsplit(url).port or 0 for name, url in urls.items()}
    taken, sentences = dict[int, str](), []
    for name, port in ports.items():
        if port and (other := taken.get(port)):
            sentences.append(f"{name}: port {port} is that of {other} as well; choose another one for one of the two")
        taken.setdefault(port, name)
    return sentences


def terminal_has_colours() -> bool:
    """What NO_COLOR and TERM say of a terminal."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def on_the_platform(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the platform's variables are there; its port and routes alone say nothing, as people set them too."""
    environ = os.environ if environ is None else environ
    return any(environ.get(name) for name in ("AIP_MODE", "AIP_ENDPOINT_ID", "AIP_MODEL_NAME"))


def project(environ: Mapping[str, str] | None = None) -> str:
    """The project of Google Cloud, by its id or number; "" = nothing says it."""
    environ = os.environ if environ is None else environ
    names = ("GOOGLE_CLOUD_PROJECT", "AIP_PROJECT_NUMBER")
    return next((value for name in names if (value := environ.get(name))), "")


def storage_emulator() -> str:
    """The emulator to which STORAGE_EMULATOR_HOST sends Google's client, and which knows no credentials; '' = none.

    Raises:
        ConfigError: it is no URL, which the client would only notice in its requests. Other languages' clients take it.
    """
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if emulator and not emulator.startswith(("http://", "https://")):
        raise ConfigError(f"STORAGE_EMULATOR_HOST: {emulator!r} is no URL; write http://{emulator}")
    return emulator


def credentials_file() -> str | None:
    """The file that Application Default Credentials are read from: one that is named, or that `gcloud` wrote."""
    if named := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return named
    folder = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")
    written = os.path.join(folder, "application_default_credentials.json")
    return written if os.path.exists(written) else None


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
