"""The table of settings: reading, complaining, handing on."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener import app, settings
from listener.cpus import Cpus
from listener.errors import ConfigError
from listener.forms import MIB
from listener.gate import Limits
from listener.settings import Settings, env_name

FIELDS = dataclasses.fields(Settings)
VARIABLES = [env_name(field) for field in FIELDS]


def mistakes(environ: dict[str, str], **overrides: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        settings.read(environ, **overrides)
    return caught.value.mistakes


# The table itself


def test_every_variable_stands_once_and_is_ours_or_the_platforms() -> None:
    assert len(set(VARIABLES)) == len(VARIABLES)
    assert [name for name in VARIABLES if not name.startswith(("LISTENER_", "AIP_"))] == []


@pytest.mark.parametrize("field", FIELDS, ids=VARIABLES)
def test_every_setting_is_explained_in_a_sentence(field: dataclasses.Field[Any]) -> None:
    assert field.metadata["help"].endswith(".")


def test_nothing_given_means_the_defaults() -> None:
    assert settings.read({}) == Settings()


def test_without_a_mapping_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LISTENER_WORKERS", "3")
    monkeypatch.setenv("LISTENER_WORKER", "4")
    assert settings.read().workers == 3
    assert settings.misspelt() == ["LISTENER_WORKER is not a setting and has no effect; did you mean LISTENER_WORKERS?"]


# Values

GOOD: list[tuple[str, str, str, Any]] = [
    ("LISTENER_HOST", "::1", "host", "::1"),
    ("AIP_HTTP_PORT", "0", "port", 0),
    ("AIP_HTTP_PORT", "65535", "port", 65535),
    ("AIP_PREDICT_ROUTE", "/v1/models/m:predict", "predict_route", "/v1/models/m:predict"),
    ("AIP_HEALTH_ROUTE", "/{odd}", "health_route", "/{odd}"),
    ("LISTENER_SERVICE", "/srv/a b", "service", "/srv/a b"),
    ("LISTENER_REPOSITORY", "/srv/a b", "repository", "/srv/a b"),
    ("LISTENER_REPOSITORY", "gs://my-bucket_1.a", "repository", "gs://my-bucket_1.a"),
    ("AIP_STORAGE_URI", "gs://bucket/a b/ä/", "storage_uri", "gs://bucket/a b/ä/"),
    ("AIP_STORAGE_URI", "./models", "storage_uri", "./models"),
    ("LISTENER_ARTIFACTS", "/mnt/a", "artifacts", "/mnt/a"),
    ("LISTENER_DEFAULT_MODEL", "digits", "default_model", "digits"),
    ("LISTENER_TRITON_URL", "localhost:9000", "triton_url", "http://localhost:9000"),
    ("LISTENER_TRITON_URL", "http://[::1]:9000/", "triton_url", "http://[::1]:9000"),
    ("LISTENER_TRITON_ARGS", "--a=1 --b='x y'", "triton_args", ("--a=1", "--b=x y")),
    ("LISTENER_TRITON_EXIT_TIMEOUT", "0", "triton_exit_timeout", 0.0),
    ("LISTENER_WORKERS", "256", "workers", 256),
    ("LISTENER_WORKERS", "Auto", "workers", "auto"),
    ("LISTENER_NOT_COALESCED", "a", "not_coalesced", frozenset("a")),
    ("LISTENER_NOT_COALESCED", " b, a,,b", "not_coalesced", frozenset("ab")),
    ("LISTENER_NOT_COALESCED", ",", "not_coalesced", frozenset()),
    ("LISTENER_TIMEOUT", "0.5", "timeout", 0.5),
    ("LISTENER_TIMEOUT", "5s", "timeout", 5.0),
    ("LISTENER_MAX_BODY", "2048", "max_body", 2048),
    ("LISTENER_MAX_BODY", "2K", "max_body", 2048),
    ("LISTENER_MAX_BODY", "2KiB", "max_body", 2048),
    ("LISTENER_MAX_BODY", "3M", "max_body", 3 * MIB),
    ("LISTENER_MAX_BODY", " 3 MiB ", "max_body", 3 * MIB),
    ("LISTENER_LOG_LEVEL", "DEBUG", "log_level", "debug"),
    ("LISTENER_LOG_FORMAT", "Human", "log_format", "human"),
]


@pytest.mark.parametrize(("variable", "text", "field", "value"), GOOD, ids=[f"{row[0]}={row[1]}" for row in GOOD])
def test_a_good_value(variable: str, text: str, field: str, value: Any) -> None:
    assert settings.read({variable: text}) == dataclasses.replace(Settings(), **{field: value})


URL = "is not an http URL with host and port, such as http://127.0.0.1:8000"
PLACE = (
    "is neither a folder nor gs://BUCKET or gs://BUCKET/PREFIX, with a bucket's name of 3 or more lower-case letters, "
    "digits, '-', '_' and '.'"
)
SIZE = "is not a size such as 12582912 or 12MiB"
BAD: list[tuple[str, str, str]] = [
    ("AIP_HTTP_PORT", "80a", "is not a whole number"),
    ("AIP_HTTP_PORT", "8080.0", "is not a whole number"),
    ("AIP_HTTP_PORT", "tcp://10.0.0.1:80", "is not a whole number"),
    ("AIP_HTTP_PORT", "65536", "is not between 0 and 65535"),
    ("AIP_HTTP_PORT", "-1", "is not between 0 and 65535"),
    ("LISTENER_REPOSITORY", "s3://bucket/models", PLACE),
    ("LISTENER_REPOSITORY", "https://storage.googleapis.com/b/m", PLACE),
    ("LISTENER_REPOSITORY", "gs://", PLACE),
    ("LISTENER_REPOSITORY", "gs:///models", PLACE),
    ("LISTENER_REPOSITORY", "gs://Bucket/models", PLACE),
    ("AIP_STORAGE_URI", "GS://bucket/models", PLACE),
    ("AIP_STORAGE_URI", "file:///srv/models", PLACE),
    (
        "LISTENER_REPOSITORY",
        "$(AIP_STORAGE_URI)",
        "holds $(AIP_STORAGE_URI), which the platform has not replaced by a value",
    ),
    ("LISTENER_TRITON_URL", "127.0.0.1", URL),
    ("LISTENER_TRITON_URL", "https://127.0.0.1:8000", URL),
    ("LISTENER_TRITON_URL", "http://127.0.0.1:99999", URL),
    ("LISTENER_TRITON_URL", "http://127.0.0.1:http", URL),
    ("LISTENER_TRITON_URL", "http://:8000", URL),
    ("LISTENER_TRITON_URL", "http://[::1", URL),
    ("LISTENER_TRITON_ARGS", "'a", "cannot be split into arguments: No closing quotation"),
    ("LISTENER_TRITON_EXIT_TIMEOUT", "soon", "is not a number of seconds"),
    ("LISTENER_TRITON_EXIT_TIMEOUT", "301", "is not between 0 and 300 seconds"),
    ("LISTENER_WORKERS", "0", "is not between 1 and 256"),
    ("LISTENER_WORKERS", "automatic", "is neither 'auto' nor a whole number"),
    ("LISTENER_THREADS", "257", "is not between 1 and 256"),
    ("LISTENER_MAX_BODY", "12MB", SIZE),
    ("LISTENER_MAX_BODY", "1.5MiB", SIZE),
    ("LISTENER_MAX_BODY", "MiB", SIZE),
    ("LISTENER_MAX_BODY", "-2048", SIZE),
    ("LISTENER_MAX_BODY", "²²²²", SIZE),
    ("LISTENER_MAX_BODY", "1023", "is not between 1024 and 67108864 bytes"),
    ("LISTENER_MAX_BODY", "65MiB", "is not between 1024 and 67108864 bytes"),
    ("LISTENER_MAX_REQUESTS", "0", "is not between 1 and 1000000"),
    ("LISTENER_QUEUE", "-1", "is not between 0 and 1000000"),
    ("LISTENER_QUEUE", "all", "is not a whole number"),
    ("LISTENER_MAX_BYTES", "1", "is not between 1024 and 1099511627776 bytes"),
    ("LISTENER_ROUTE_SHARE", "0", "is not above 0 and at most 1"),
    ("LISTENER_ROUTE_SHARE", "75%", "is not a number such as 0.75"),
    ("LISTENER_CLIENT_SHARE", "nan", "is not above 0 and at most 1"),
    ("LISTENER_ENDPOINT", "private", "is not one of shared, dedicated"),
    ("LISTENER_TIMEOUT", "0", "is not between 0.001 and 3600 seconds"),
    ("LISTENER_TIMEOUT", "nan", "is not between 0.001 and 3600 seconds"),
    ("LISTENER_TIMEOUT", "1m", "is not a number of seconds"),
    ("LISTENER_DRAIN_TIMEOUT", "inf", "is not between 0 and 3600 seconds"),
    ("LISTENER_ACCESS_LOG", "all", "is not a number"),
    ("LISTENER_ACCESS_LOG", "1001", "is not between 0 and 1000"),
    ("LISTENER_LOG_LEVEL", "loud", "is not one of debug, info, warning, error"),
    ("LISTENER_LOG_FORMAT", "xml", "is not one of auto, json, human"),
    ("LISTENER_TRITON_LOG_LEVEL", "verbose", "is not one of debug, info, warning, error"),
]


@pytest.mark.parametrize(("variable", "text", "sentence"), BAD, ids=[f"{row[0]}={row[1]}" for row in BAD])
def test_a_bad_value_is_named_with_its_variable(variable: str, text: str, sentence: str) -> None:
    assert mistakes({variable: text}) == (f"{variable}: {text!r} {sentence}",)


@pytest.mark.parametrize("variable", ["AIP_PREDICT_ROUTE", "AIP_HEALTH_ROUTE"])
@pytest.mark.parametrize("text", ["route", "/ro ute", "/route?x", "/route#x", "http://a/route", "/röute", "/route\x7f"])
def test_a_route_that_no_request_could_match_is_refused(variable: str, text: str) -> None:
    # a request's path is percent-encoded ASCII, and routes are taken to the letter
    (sentence,) = mistakes({variable: text})
    assert sentence.startswith(f"{variable}: {text!r} is not a path: it starts with '/'")


def test_all_mistakes_come_at_once() -> None:
    assert mistakes({"LISTENER_WORKERS": "no", "AIP_HTTP_PORT": "x"}, log_level="loud") == (
        "AIP_HTTP_PORT: 'x' is not a whole number",
        "LISTENER_WORKERS: 'no' is neither 'auto' nor a whole number",
        "--log-level: 'loud' is not one of debug, info, warning, error",
    )


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_empty_variable_counts_as_not_given(variable: str) -> None:
    assert settings.read({variable: ""}) == Settings()


@given(st.dictionaries(st.sampled_from(VARIABLES), st.text(max_size=12)))
def test_whatever_the_environment_says_is_settings_or_sentences(environ: dict[str, str]) -> None:
    try:
        read = settings.read(environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            variable, _, rest = mistake.partition(": ")
            assert rest.startswith(f"{environ[variable]!r} ")
    else:
        assert settings.read(read.to_env()) == read


# The command line


def test_the_command_line_wins() -> None:
    read = settings.read({"AIP_HTTP_PORT": "1", "LISTENER_WORKERS": "2"}, port="3")
    assert (read.port, read.workers) == (3, 2)


def test_the_command_line_wins_over_a_bad_variable() -> None:
    assert settings.read({"AIP_HTTP_PORT": "bad"}, port="3").port == 3


@pytest.mark.parametrize("nothing", [None, ""], ids=["None", "empty"])
def test_an_option_that_was_not_given_leaves_the_variable(nothing: str | None) -> None:
    assert settings.read({"AIP_HTTP_PORT": "1"}, port=nothing).port == 1


def test_a_bad_option_is_named_as_it_was_typed() -> None:
    assert mistakes({}, drain_timeout="long") == ("--drain-timeout: 'long' is not a number of seconds",)


# Routes

VERTEX = {"AIP_ENDPOINT_ID": "12", "AIP_DEPLOYED_MODEL_ID": "34"}
LEGACY = {"AIP_MODEL_NAME": "m", "AIP_VERSION_NAME": "v"}


@pytest.mark.parametrize(
    ("environ", "predict", "health"),
    [
        pytest.param({}, "/predict", "/health", id="local"),
        pytest.param(
            VERTEX, "/v1/endpoints/12/deployedModels/34:predict", "/v1/endpoints/12/deployedModels/34", id="v"
        ),
        pytest.param(LEGACY, "/v1/models/m/versions/v:predict", "/v1/models/m/versions/v", id="legacy"),
        pytest.param(
            {**VERTEX, "AIP_PREDICT_ROUTE": "/p"}, "/p", "/v1/endpoints/12/deployedModels/34", id="predict route given"
        ),
        pytest.param({**LEGACY, "AIP_PREDICT_ROUTE": "/p", "AIP_HEALTH_ROUTE": "/h"}, "/p", "/h", id="both given"),
    ],
)
def test_the_platforms_default_routes(environ: dict[str, str], predict: str, health: str) -> None:
    read = settings.read(environ)
    assert (read.predict_route, read.health_route) == (predict, health)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:80/health"),
        ("::", "http://[::1]:80/health"),
        ("::1", "http://[::1]:80/health"),
        ("127.0.0.1", "http://127.0.0.1:80/health"),
        ("localhost", "http://localhost:80/health"),
    ],
)
def test_how_this_machine_reaches_its_own_listener(host: str, url: str) -> None:
    assert Settings(host=host, port=80).local_url("/health") == url


# What is nobody's setting

KUBERNETES = {
    "LISTENER_PORT": "tcp://10.0.0.1:8080",
    "LISTENER_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "LISTENER_PORT_8080_TCP_ADDR": "10.0.0.1",
    "LISTENER_PORT_8080_TCP_PORT": "8080",
    "LISTENER_PORT_8080_TCP_PROTO": "tcp",
    "LISTENER_SERVICE_HOST": "10.0.0.1",
    "LISTENER_SERVICE_PORT": "8080",
    "LISTENER_SERVICE_PORT_HTTP": "8080",
    "LISTENER_TRITON_PORT": "tcp://10.0.0.2:8000",
    "LISTENER_TRITON_SERVICE_HOST": "10.0.0.2",
}


def test_what_kubernetes_puts_beside_a_service_is_ignored() -> None:
    assert settings.read(KUBERNETES) == Settings()
    assert settings.misspelt(KUBERNETES) == []


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("LISTENER_WORKER", "LISTENER_WORKERS"),
        ("LISTENER_MAXBODY", "LISTENER_MAX_BODY"),
        ("LISTENER_LOGLEVEL", "LISTENER_LOG_LEVEL"),
        ("LISTENER_TRITON_ARG", "LISTENER_TRITON_ARGS"),
        ("LISTENER_TIME_OUT", "LISTENER_TIMEOUT"),
        ("LISTENER_DRAINTIMEOUT", "LISTENER_DRAIN_TIMEOUT"),
    ],
)
def test_a_misspelt_variable_is_guessed(variable: str, meant: str) -> None:
    assert settings.misspelt({variable: "1"}) == [
        f"{variable} is not a setting and has no effect; did you mean {meant}?"
    ]


@pytest.mark.parametrize("variable", ["LISTENER_WORKER_SOCKET", "LISTENER_COLOUR", "WORKERS", "AIP_MODE", *VARIABLES])
def test_other_variables_pass_in_silence(variable: str) -> None:
    assert settings.misspelt({variable: "1"}) == []


# What follows from a setting


@pytest.mark.parametrize(
    ("given", "place", "fetches"),
    [
        ({}, "", False),
        ({"storage_uri": "gs://b/m"}, "gs://b/m", True),
        ({"storage_uri": "/srv/m"}, "/srv/m", False),
        ({"storage_uri": "gs://b/m", "repository": "m"}, "m", False),
        ({"storage_uri": "/srv/m", "repository": "gs://b"}, "gs://b", True),
    ],
)
def test_where_the_models_lie(given: dict[str, str], place: str, fetches: bool) -> None:
    configured = Settings(**given)  # type: ignore[arg-type]
    assert (configured.place, configured.fetches) == (place, fetches)


@pytest.mark.parametrize(
    ("url", "here"),
    [("http://127.0.0.1:1", True), ("http://localhost:1", True), ("http://[::1]:1", True), ("http://triton:1", False)],
)
def test_whether_triton_is_on_this_machine(url: str, here: bool) -> None:
    assert Settings(triton_url=url).triton_is_here is here


@pytest.mark.parametrize("value", [None, "", "http://127.0.0.1:9023", "https://storage.test"])
def test_whether_there_is_an_emulator(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    if value is not None:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", value)
    assert settings.storage_emulator() == (value or "")


def test_an_emulator_that_is_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:9023")
    with pytest.raises(ConfigError) as caught:
        settings.storage_emulator()
    assert caught.value.mistakes == ("STORAGE_EMULATOR_HOST: '127.0.0.1:9023' is no URL; write http://127.0.0.1:9023",)


@pytest.mark.parametrize(
    ("text", "coalesced"), [("", ["a", "b"]), ("a", ["b"]), ("a,b", []), ("*", []), ("other", ["a", "b"])]
)
def test_which_models_are_coalesced(text: str, coalesced: list[str]) -> None:
    read = settings.read({"LISTENER_NOT_COALESCED": text})
    assert [name for name in ("a", "b") if read.coalesces(name)] == coalesced


def test_there_is_one_process_where_nobody_has_made_a_number_of_auto() -> None:
    assert (Settings(workers="auto").worker_count, Settings(workers=3).worker_count) == (1, 3)


# What follows from others


def test_the_project_is_the_environments() -> None:
    given: list[dict[str, str]] = [
        {},
        {"AIP_PROJECT_NUMBER": "12"},
        {"GOOGLE_CLOUD_PROJECT": "p", "AIP_PROJECT_NUMBER": "12"},
    ]
    assert [settings.project(env) for env in given] == ["", "12", "p"]


def test_the_kind_of_endpoint_says_how_long_a_request_may_take() -> None:
    given: list[dict[str, str]] = [
        {},
        {"LISTENER_ENDPOINT": "dedicated"},
        {"LISTENER_ENDPOINT": "dedicated", "LISTENER_TIMEOUT": "5"},
    ]
    assert [settings.read(env).timeout for env in given] == [60.0, 600.0, 5.0]


def test_what_requests_may_take_follows_from_the_settings() -> None:
    assert app.limits(settings.read({})) == Limits(2048, 512 * MIB, 512, 1536, 2048)
    few = {"max_requests": "3", "queue": "7", "max_bytes": "1024", "route_share": "0.1", "client_share": "0.67"}
    assert app.limits(settings.read({}, **few)) == Limits(3, 12 * MIB, 7, 1, 2), "one request always fits"


# A child gets the same

_ROUTES = st.from_regex(r"/[a-z:.{}]{0,8}", fullmatch=True)
_LEVELS = st.sampled_from(["debug", "info", "warning", "error"])
_NOT_EMPTY = st.text(min_size=1, max_size=20)
ANY = st.builds(
    Settings,
    host=_NOT_EMPTY,
    port=st.integers(0, 65535),
    predict_route=_ROUTES,
    health_route=_ROUTES,
    service=st.text(max_size=20),
    repository=st.sampled_from(["", "models", "gs://bucket/models/"]),
    storage_uri=st.sampled_from(["", "/srv/models", "gs://bucket"]),
    artifacts=st.text(max_size=20),
    default_model=st.text(max_size=20),
    triton_url=st.integers(1, 65535).map(lambda port: f"http://triton:{port}"),
    triton_bin=st.text(max_size=20),
    triton_args=st.lists(st.text(max_size=20)).map(tuple),
    triton_exit_timeout=st.floats(0, 300),
    workers=st.one_of(st.integers(1, 256), st.just("auto")),
    threads=st.integers(1, 256),
    max_body=st.integers(1024, 64 * MIB),
    max_requests=st.integers(1, 1_000_000),
    queue=st.one_of(st.integers(0, 1_000_000), st.just("auto")),
    max_bytes=st.integers(1024, 1 << 40),
    route_share=st.floats(0, 1, exclude_min=True),
    client_share=st.floats(0, 1, exclude_min=True),
    endpoint=st.sampled_from(["shared", "dedicated"]),
    not_coalesced=st.frozensets(st.from_regex(r"[a-z_.]{1,8}|\*", fullmatch=True)),
    timeout=st.floats(0.001, 3600),
    drain_timeout=st.floats(0, 3600),
    reload=st.booleans(),
    server_timing=st.booleans(),
    access_log=st.floats(0, 1000),
    log_level=_LEVELS,
    log_format=st.sampled_from(["auto", "json", "human"]),
    triton_log_level=_LEVELS,
)


@given(ANY)
def test_a_child_process_reads_equal_settings(given_settings: Settings) -> None:
    assert settings.read(given_settings.to_env()) == given_settings


def test_what_a_child_gets_can_stand_in_an_environment() -> None:
    env = Settings(triton_args=("--a", "b c"), not_coalesced=frozenset("ab")).to_env()
    assert set(env) == set(VARIABLES)
    assert env["LISTENER_TRITON_ARGS"] == "--a 'b c'"
    assert env["LISTENER_NOT_COALESCED"] == "a,b"
    assert [name for name, value in env.items() if not isinstance(value, str)] == []


def test_threads_and_processes_follow_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("listener.cpus.available", lambda: Cpus(8, "a test"))
    assert (settings.read({}).thread_count, settings.read({}).process_count) == (8, 8)
    assert settings.read({"LISTENER_WORKERS": "3"}).process_count == 2
    asked = settings.read({"LISTENER_THREADS": "1", "LISTENER_PROCESSES": "5"})
    assert (asked.thread_count, asked.process_count) == (1, 5)


def test_half_a_cpu_is_two_threads_and_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("listener.cpus.available", lambda: Cpus(0.5, "a test"))
    assert (settings.read({}).thread_count, settings.read({}).process_count) == (2, 1)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"AIP_HTTP_PORT": "8000"}, ["LISTENER_TRITON_URL: port 8000 is that of AIP_HTTP_PORT"]),
        ({"AIP_HTTP_PORT": "8002"}, ["LISTENER_TRITON_METRICS_URL: port 8002 is that of AIP_HTTP_PORT"]),
        (
            {"LISTENER_TRITON_METRICS_URL": "127.0.0.1:8000"},
            ["LISTENER_TRITON_METRICS_URL: port 8000 is that of LISTENER_TRITON_URL"],
        ),
        ({"AIP_HTTP_PORT": "8000", "LISTENER_TRITON_URL": "triton:8000"}, []),
        ({"LISTENER_METRICS_PORT": "8003"}, []),
        (
            {"LISTENER_METRICS_PORT": "8002"},
            ["LISTENER_TRITON_METRICS_URL: port 8002 is that of LISTENER_METRICS_PORT"],
        ),
        (
            {"LISTENER_METRICS_PORT": "8080", "LISTENER_TRITON_URL": "triton:8000"},
            ["LISTENER_METRICS_PORT: port 8080 is that of AIP_HTTP_PORT"],
        ),
    ],
)
def test_a_port_can_be_one_ones_alone(environ: dict[str, str], names: list[str]) -> None:
    found = settings.clashes(settings.read(environ))
    assert [sentence.partition(" as well")[0] for sentence in found] == names


def test_the_time_to_stop_is_that_of_the_work_and_a_little_more() -> None:
    found = settings.read({"LISTENER_DRAIN_TIMEOUT": "60", "LISTENER_TRITON_EXIT_TIMEOUT": "7"})
    assert (found.worker_patience, found.triton_patience) == (65, 10)
