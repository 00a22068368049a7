"""The fixtures in a pytest of their own, as users run it: without any plugin for asyncio."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.testing.conftest import MakeService

CONFTEST = 'pytest_plugins = ["listener.testing.fixtures"]\n'
TEST = """\
from listener.testing import FakeModel

def test_it(client, triton, service):
    triton.models["m"] = FakeModel({"x": ("FP32", [1])}, {"y": ("FP32", [1])}, lambda a: {"y": a["x"] * 2})
    assert (service / "listener.yaml").exists()
    assert client.predict([1]) == [%s]
"""


def pytest_of(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error"]
    return subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


def having_a_test(folder: Path, wanted: int) -> Path:
    """The service with a test of its own, two folders down."""
    deep = folder / "tests" / "deep"
    deep.mkdir(parents=True)
    (folder / "tests" / "conftest.py").write_text(CONFTEST)
    (deep / f"test_{folder.name}.py").write_text(TEST % wanted)
    return folder


def test_a_plain_test_asks_the_service_around_it(make_service: MakeService) -> None:
    done = pytest_of(having_a_test(make_service("a", 1), 4))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_two_services_in_one_run(make_service: MakeService) -> None:
    first, second = having_a_test(make_service("a", 1), 4), having_a_test(make_service("b", 2), 6)
    done = pytest_of(first.parent, first.name, second.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_a_service_that_cannot_be_loaded_fails_with_its_sentences(make_service: MakeService) -> None:
    done = pytest_of(having_a_test(make_service("a", source="import nonsense"), 2))
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'nonsense'" in done.stdout
    assert "listener.yaml:3: routes.m.handler" in done.stdout


def test_a_test_outside_of_any_service_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text("def test_it(service):\n    pass\n")
    done = pytest_of(tmp_path)
    assert done.returncode == 1
    assert "test_it.py has a listener.yaml; define a fixture `service`" in done.stdout


def test_the_other_names_need_no_pytest() -> None:
    script = "import sys; sys.modules['pytest'] = None; import listener.testing; print(*listener.testing.__all__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [
        "Client",
        "FakeModel",
        "FakeTriton",
        "Refused",
        "Tensors",
        "listening",
        "until_ready",
    ]
