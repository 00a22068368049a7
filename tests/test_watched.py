"""Which file restarts what."""

from __future__ import annotations

from pathlib import Path

import pytest

from listener.watched import Kind, Watched

HOUSES = Watched(Path("/srv/houses"), Path("/srv/houses/triton_repo"))
ELSEWHERE = Watched(Path("/srv/houses"), Path("/models"))
BARE = Watched(Path("/models"), Path("/models"))
#: A service inside its repository's folder, as odd as that is.
WITHIN = Watched(Path("/models/service"), Path("/models"))


@pytest.mark.parametrize(
    "path",
    [
        "listener.yaml",
        "handlers/houses.py",
        "handlers/__init__.py",
        "prices.py",
        "deep/down/in/a/package.py",
        "words.txt",
        "artefacts/labels.json",
        "weights.npz",
        "prompts/system.md",
        "labels/tests/words.txt",
        "pictures/reference.png",
    ],
)
def test_code_configuration_and_artefacts_restart_the_workers(path: str) -> None:
    assert HOUSES.kind(Path("/srv/houses") / path) is Kind.WORKERS


@pytest.mark.parametrize("path", ["houses/config.pbtxt", "houses/1/model.onnx", "houses/1/model.py", "new/1"])
def test_the_repository_restarts_triton(path: str) -> None:
    assert HOUSES.kind(Path("/srv/houses/triton_repo") / path) is Kind.TRITON
    assert ELSEWHERE.kind(Path("/models") / path) is Kind.TRITON
    assert BARE.kind(Path("/models") / path) is Kind.TRITON
    assert WITHIN.kind(Path("/models") / path) is Kind.TRITON


@pytest.mark.parametrize("folder", ["/srv/houses", "/srv/houses/handlers", "/srv/houses/triton_repo/houses/1"])
@pytest.mark.parametrize(
    "path",
    [
        ".git/index",
        ".venv/lib/python3.11/site-packages/numpy/version.py",
        "venv/bin/activate",
        "env/lib/python3.11/site-packages/six.py",
        "__pycache__/houses.cpython-311.pyc",
        "__pycache__",
        ".houses.py.swp",
        ".#houses.py",
        "houses.py~",
        "#houses.py#",
        "4913",
        "houses.py___jb_tmp___",
        "houses.py.tmp",
        "model.onnx.part",
        "requests.log",
        "cache.sqlite3-journal",
        ".hidden/words.txt",
    ],
)
def test_what_tools_and_programs_write_restarts_nothing(folder: str, path: str) -> None:
    assert HOUSES.kind(Path(folder) / path) is Kind.NOTHING


@pytest.mark.parametrize(
    "path",
    [
        "tests",
        "tests/test_houses.py",
        "tests/data/house.json",
        "graph.svg",
        "graph.mmd",
        "README.md",
        "pytest.ini",
        "conftest.py",
    ],
)
def test_tests_and_what_people_read_restart_nothing(path: str) -> None:
    assert HOUSES.kind(Path("/srv/houses") / path) is Kind.NOTHING
    assert BARE.kind(Path("/models") / path) is Kind.TRITON  # whose every folder is a model


def test_what_lies_elsewhere_restarts_nothing() -> None:
    assert HOUSES.kind(Path("/srv/houses2/handlers/houses.py")) is Kind.NOTHING
    assert ELSEWHERE.kind(Path("/srv/words.txt")) is Kind.NOTHING


def test_folders_above_the_service_do_not_count() -> None:
    """A service may lie in a hidden folder."""
    hidden = Watched(Path("/home/me/.work/venv/houses"), Path("/home/me/.work/venv/houses/triton_repo"))
    assert hidden.kind(Path("/home/me/.work/venv/houses/handlers/houses.py")) is Kind.WORKERS


def test_the_service_within_the_repository_is_the_workers() -> None:
    assert WITHIN.kind(Path("/models/service/handlers/houses.py")) is Kind.WORKERS


def test_listener_yaml_is_the_workers_wherever_the_repository_is() -> None:
    assert BARE.kind(Path("/models/listener.yaml")) is Kind.WORKERS


@pytest.mark.parametrize(
    ("watched", "roots"),
    [
        (HOUSES, ["/srv/houses"]),
        (ELSEWHERE, ["/srv/houses", "/models"]),
        (BARE, ["/models"]),
        (WITHIN, ["/models"]),
    ],
)
def test_no_root_lies_in_another(watched: Watched, roots: list[str]) -> None:
    assert [str(root) for root in watched.roots] == roots


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        (["/srv/houses/handlers/houses.py"], "handlers/houses.py"),
        (
            ["/srv/houses/words.txt", "/srv/houses/handlers/a.py", "/srv/houses/listener.yaml"],
            "handlers/a.py and 2 more",
        ),
        (["/models/houses/config.pbtxt"], "/models/houses/config.pbtxt"),
    ],
)
def test_a_log_line_names_the_first_and_counts_the_others(paths: list[str], shown: str) -> None:
    assert ELSEWHERE.shown(map(Path, paths)) == shown
