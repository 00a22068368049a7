"""Runs the code of docs/write-a-handler.md."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from listener import service as services
from listener.testing import FakeModel, FakeTriton, Tensors, listening, until_ready
from tests.markdown import blocks

GUIDE = (Path(__file__).parents[1] / "docs/write-a-handler.md").read_text()


def block(language: str, containing: str) -> str:
    (found,) = [block.text for block in blocks(GUIDE) if block.language == language and containing in block.text]
    return found


def make_service(folder: Path, code: str, yaml: str) -> Path:
    (folder / "guide_handlers").mkdir()
    (folder / "guide_handlers" / f"{folder.name}.py").write_text(code)
    (folder / "listener.yaml").write_text(yaml.format(module=f"guide_handlers.{folder.name}"))
    return folder


def test_the_yaml_is_a_service(tmp_path: Path) -> None:
    (tmp_path / "listener.yaml").write_text(block("yaml", "digits:"))
    assert services.read(tmp_path).routes["digits"].handler == "handlers.digits:Digits"


def make_sentiment(folder: Path) -> Path:
    folder.mkdir()
    make_service(folder, block("python", "Says how friendly"), "routes:\n  s: {{handler: '{module}:Sentiment'}}\n")
    (folder / "words.txt").write_text("what a lovely day")
    return folder


def test_the_tests_of_the_handler_with_two_hooks(tmp_path: Path) -> None:
    folder = make_sentiment(tmp_path / "tested")
    (folder / "conftest.py").write_text(block("python", "pytest_plugins"))
    (folder / "test_it.py").write_text(block("python", "def test_known_words_count"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


async def test_the_handler_with_two_hooks_on_a_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_sentiment(tmp_path / "hooks")
    monkeypatch.syspath_prepend(str(folder))
    names: dict[str, Any] = {}
    exec(block("python", "async def ask"), names)
    assert await names["ask"](folder, ["a lovely thing", "what a"]) == [{"friendly": 2.0}, {"friendly": 2.0}]


async def test_the_handler_that_yields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    make_service(folder, block("python", "word by word"), "routes:\n  w: {{handler: '{module}:Words'}}\n")
    monkeypatch.syspath_prepend(str(folder))
    tensor = {"x": ("FP32", [1])}
    fake = FakeTriton({"sentiment": FakeModel(tensor, tensor, dict)})
    async with fake.running() as triton, listening(folder, triton) as url, aiohttp.ClientSession() as session:
        await until_ready(url)
        body = {"instances": ["a b"]}
        async with session.post(f"{url}/predict", json=body, headers={"Accept": "text/event-stream"}) as answer:
            assert await answer.text() == 'data: {"word":"a"}\n\ndata: {"word":"b"}\n\n'
        async with session.post(f"{url}/predict", json={"instances": ["a b", "c"]}) as answer:
            assert await answer.json() == {"predictions": [[{"word": "a"}, {"word": "b"}], [{"word": "c"}]]}


def times(factor: float) -> Callable[[Tensors], Tensors]:
    return lambda arrays: {"y": arrays["x"] * factor}


def graded() -> dict[str, FakeModel]:
    one, two = ("FP32", [1]), ("FP32", [2])
    return {
        "small": FakeModel({"x": one}, {"y": one}, times(2)),
        "large": FakeModel({"x": one}, {"y": one}, times(0), versions={"1": times(3), "2": times(10), "3": times(4)}),
        "judge": FakeModel(
            {"pairs": two}, {"best": one}, lambda arrays: {"best": arrays["pairs"].max(1, keepdims=True)}
        ),
    }


async def test_the_handler_that_calls_three_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "graded"
    folder.mkdir()
    yaml = block("yaml", "graded:").replace("handlers.graded:", "{module}:")
    make_service(folder, block("python", "class Graded"), yaml)
    monkeypatch.syspath_prepend(str(folder))
    fake = FakeTriton(graded())
    async with (
        fake.running() as triton,
        listening(folder, triton) as url,
        aiohttp.ClientSession() as session,
    ):
        await until_ready(url)

        async def ask(instances: list[Any], **more: Any) -> tuple[int, Any]:
            async with session.post(f"{url}/predict", json={"instances": instances, **more}) as answer:
                return answer.status, await answer.json()

        assert await ask([[1], [2]]) == (200, {"predictions": [10, 20]})
        fake.models["judge"].delay = 5
        assert await ask([[1], [2]]) == (200, {"predictions": [6, 12]})
        fake.models["judge"].delay, fake.models["large"].versions = 0, ["1", "3"]
        assert (await ask([[1]]))[0] == 503
        assert await ask([[1]], parameters={"version": 1}) == (
            400,
            {"error": "parameters.version: route 'graded' has no model of its own, and no versions"},
        )
