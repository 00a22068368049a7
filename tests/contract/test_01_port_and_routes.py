"""Contract, item 1: port and routes from the environment, both products' defaults, and no undocumented route."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.contract import models
from tests.contract.container import Container, running
from tests.contract.target import Target, refused
from tests.integration.stack import wait_for

pytestmark = pytest.mark.triton

WITHOUT_ROUTES: dict[str, str | None] = {"AIP_PREDICT_ROUTE": None, "AIP_HEALTH_ROUTE": None}
WITHOUT_ENDPOINT: dict[str, str | None] = {"AIP_ENDPOINT_ID": None, "AIP_DEPLOYED_MODEL_ID": None}
WITHOUT_NAMES: dict[str, str | None] = {"AIP_MODEL_NAME": None, "AIP_VERSION_NAME": None}

#: Changes of Vertex's environment, the predict route and the health route that follow.
ROUTES: dict[str, tuple[dict[str, str | None], str, str]] = {
    "Vertex's default": (
        WITHOUT_ROUTES,
        "/v1/endpoints/71/deployedModels/42:predict",
        "/v1/endpoints/71/deployedModels/42",
    ),
    "Legacy's default": (
        {**WITHOUT_ROUTES, **WITHOUT_ENDPOINT, "AIP_MODEL_NAME": "digits", "AIP_VERSION_NAME": "v3"},
        "/v1/models/digits/versions/v3:predict",
        "/v1/models/digits/versions/v3",
    ),
    "local": ({**WITHOUT_ROUTES, **WITHOUT_ENDPOINT, **WITHOUT_NAMES}, "/predict", "/health"),
    "empty variables": (
        {"AIP_PREDICT_ROUTE": "", "AIP_HEALTH_ROUTE": ""},
        "/v1/endpoints/71/deployedModels/42:predict",
        "/v1/endpoints/71/deployedModels/42",
    ),
    "of a user": ({"AIP_PREDICT_ROUTE": "/a/b:c", "AIP_HEALTH_ROUTE": "/is.it{up}"}, "/a/b:c", "/is.it{up}"),
    "one path for both": ({"AIP_PREDICT_ROUTE": "/both", "AIP_HEALTH_ROUTE": "/both"}, "/both", "/both"),
}


@pytest.fixture(scope="module")
def small(here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that is loaded quickly."""
    return models.write(tmp_path_factory.mktemp("small"), [models.DEFAULT])


@pytest.fixture
def no_triton(here: None, tmp_path: Path) -> Path:
    """A tritonserver that never comes up."""
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o700)
    return program


@pytest.mark.parametrize(("changes", "predict", "health"), ROUTES.values(), ids=ROUTES.keys())
def test_routes_come_from_the_environment(
    small: Path, tmp_path: Path, changes: dict[str, str | None], predict: str, health: str
) -> None:
    with running(tmp_path / "run", "--repository", str(small), **changes) as container:
        target = container.ready(container.target(predict, health))
        assert target.predictions([[1.0, 2.0]]) == [[1.0, 2.0]]
        for other in {"/predict", "/health", "/v1/endpoints/71/deployedModels/42"} - {predict, health}:
            refused(target.get(other), 404)
        if predict in (health, f"{health}:predict"):  # sources disagree whether the health default ends in :predict
            assert target.get(predict).status == 200
        else:
            refused(target.get(predict), 405)


def test_the_port_is_8080_and_the_address_every_one_where_nothing_says_otherwise(
    no_triton: Path, small: Path, tmp_path: Path
) -> None:
    if not free(8080):
        pytest.skip("somebody else has port 8080 on this machine")
    with waiting(no_triton, small, tmp_path, AIP_HTTP_PORT=None) as container:
        wait_for(lambda: reachable("127.0.0.1", 8080), 20, container.output)


def test_it_listens_on_every_address_before_triton_is_up(no_triton: Path, small: Path, tmp_path: Path) -> None:
    """127.0.0.2 leads to a socket on 0.0.0.0, and to none on 127.0.0.1."""
    with waiting(no_triton, small, tmp_path) as container:
        wait_for(lambda: reachable("127.0.0.2", container.port), 20, container.output)
        target = container.target()
        wait_for(lambda: target.health() == 503, 20, container.output)
        refused(target.predict({"instances": [[1.0]]}), 503)


def waiting(no_triton: Path, repository: Path, folder: Path, **more: str | None) -> AbstractContextManager[Container]:
    """A container whose Triton is not there yet, on the address that the listener takes by itself."""
    return running(
        folder / "run",
        "--repository",
        str(repository),
        LISTENER_TRITON_BIN=str(no_triton),
        LISTENER_HOST=None,
        **more,
    )


def free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def reachable(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


# What is served beside the two routes, and what is not


def test_the_root_says_in_a_line_where_the_description_is(target: Target) -> None:
    answer = target.get("/")
    assert answer.status == 200
    assert answer.media_type == "text/plain"
    assert answer.body.count(b"\n") <= 1
    assert b"/openapi.json" in answer.body


def test_the_description_is_json_that_names_both_routes(target: Target) -> None:
    answer = target.get("/openapi.json")
    assert (answer.status, answer.media_type) == (200, "application/json")
    document = answer.json()
    assert document["openapi"].startswith("3.")
    assert {target.predict_route, target.health_route} <= set(document["paths"])


def test_the_models_are_listed(target: Target) -> None:
    answer = target.get("/v1/models")
    assert (answer.status, answer.media_type) == (200, "application/json")
    assert list(answer.json()) == ["models"]
    assert set(models.MODELS) <= set(answer.json()["models"])


@pytest.mark.parametrize(
    ("path", "versions"),
    [
        ("/v1/models/identity_fp32", ["1"]),
        ("/v1/models/identity%5Ffp32", ["1"]),
        ("/v1/models/identity_fp32/versions/1", ["1"]),
        ("/v1/models/versions", ["1", "2"]),
        ("/v1/models/versions/versions/1", ["1"]),
        ("/v1/models/versions/versions/2", ["2"]),
    ],
)
def test_a_model_says_that_it_is_ready(target: Target, path: str, versions: list[str]) -> None:
    """In the words of KServe's V1 protocol (`name`, `ready`) and of TensorFlow Serving (`model_version_status`)."""
    answer = target.get(path)
    assert (answer.status, answer.media_type) == (200, "application/json")
    document = answer.json()
    assert set(document) == {"name", "ready", "model_version_status"}
    assert document["name"] == path.replace("%5F", "_").split("/")[3]
    assert document["ready"] is True
    states = document["model_version_status"]
    assert sorted(state["version"] for state in states) == versions
    for state in states:
        assert state["state"] == "AVAILABLE"
        assert set(state["status"]) == {"error_code", "error_message"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/nothing",
        "/v1/models/versions/versions/3",
        "/v1/models/versions/versions/one",
        "/v1/models/identity_fp32/versions",
        "/v1/models/",
        "/v1/models/identity_fp32/",
    ],
)
def test_a_model_that_is_not_there_is_404(target: Target, path: str) -> None:
    refused(target.get(path), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v1",
        "/v2/",
        "/v2/models",
        "/v2/health",
        "/v2/logging",
        "/v2/trace/setting",
        "/v2/systemsharedmemory/status",
        "/v2/cudasharedmemory/status",
        "/v2/models/identity_fp32/trace/setting",
        "/v2/repository",
        "/metrics",
        "/openapi",
        "/docs",
        "/index.html",
        "/favicon.ico",
        "/.well-known/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_else_is_served(target: Target, method: str, path: str) -> None:
    refused(target.request(method, path, b"" if method == "POST" else None), 404)


def test_a_route_is_a_literal_path(target: Target) -> None:
    body = b'{"instances": [[1.0]]}'
    for path in (f"{target.predict_route}/", target.predict_route.upper(), f"{target.predict_route}x"):
        if path != target.predict_route:
            refused(target.post(path, body), 404)
    assert target.post(f"{target.predict_route}?a=b", body).status == 200


#: Path and the methods that it has.
METHODS = {
    "/": {"GET", "HEAD"},
    "/openapi.json": {"GET", "HEAD"},
    "/v1/models": {"GET", "HEAD"},
    "/v1/models/matrix": {"GET", "HEAD"},
    "/v1/models/matrix/versions/1": {"GET", "HEAD"},
    "/v1/models/matrix:predict": {"POST"},
    "/v1/models/matrix/versions/1:predict": {"POST"},
    "/v2": {"GET", "HEAD"},
    "/v2/health/live": {"GET", "HEAD"},
    "/v2/health/ready": {"GET", "HEAD"},
    "/v2/models/stats": {"GET", "HEAD"},
    "/v2/models/matrix": {"GET", "HEAD"},
    "/v2/models/matrix/ready": {"GET", "HEAD"},
    "/v2/models/matrix/config": {"GET", "HEAD"},
    "/v2/models/matrix/stats": {"GET", "HEAD"},
    "/v2/models/matrix/versions/1/config": {"GET", "HEAD"},
    "/v2/models/matrix/infer": {"POST"},
    "/v2/models/matrix/versions/1/infer": {"POST"},
    "/v2/models/matrix/generate": {"POST"},
    "/v2/models/matrix/generate_stream": {"POST"},
    "/v2/repository/index": {"POST"},
}


@pytest.mark.parametrize(("path", "methods"), METHODS.items())
def test_another_method_is_405_and_the_answer_names_those_that_are_allowed(
    target: Target, path: str, methods: set[str]
) -> None:
    for method in sorted({"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE"} - methods):
        answer = target.request(method, path, b"{}" if method in ("POST", "PUT", "PATCH") else None)
        refused(answer, 405)
        assert allowed(answer.header("Allow")) - {"OPTIONS"} == methods


@pytest.mark.parametrize(("path", "methods"), METHODS.items())
def test_options_names_the_methods(target: Target, path: str, methods: set[str]) -> None:
    answer = target.request("OPTIONS", path)
    assert (answer.status, answer.body) == (204, b"")
    assert allowed(answer.header("Allow")) - {"OPTIONS"} == methods


def allowed(header: str | None) -> set[str]:
    assert header is not None
    return {method.strip() for method in header.split(",")}


@pytest.mark.parametrize("path", [path for path, methods in METHODS.items() if "HEAD" in methods])
def test_head_is_get_without_a_body(target: Target, path: str) -> None:
    got, head = target.get(path), target.request("HEAD", path)
    assert (head.status, head.body) == (got.status, b"")
    assert head.media_type == got.media_type


def test_the_two_routes_have_the_methods_of_their_kind(target: Target) -> None:
    refused(target.request("PUT", target.predict_route, b"{}"), 405)
    refused(target.request("DELETE", target.health_route), 405)
    assert "POST" in allowed(target.request("OPTIONS", target.predict_route).header("Allow"))
    assert allowed(target.request("OPTIONS", target.health_route).header("Allow")) >= {"GET", "HEAD"}
    assert target.request("HEAD", target.health_route).status == 200
