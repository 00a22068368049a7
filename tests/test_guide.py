"""Runs the code of docs/write-a-handler.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from listener import service as services
from listener.testing import FakeModel, FakeTriton, listening, until_ready

GUIDE = (Path(__file__).parents[1] / "docs/write-a-handler.md").read_text()


def block(language: str, containing: str) -> str:
    found = [text for kind, text in re.findall(r"```(\w+)\n(.*?)```", GUIDE, re.DOTALL) if kind == language]
    (text,) = [text for text in found if containing in text]
    return str(text)


def make_service(folder: Path, code: str, yaml: str) -> Path:
    (folder / "guide_handlers").mkdir()
    (folder / "guide_handlers" / f"{folder.name}.py").write_text(code)
    (folder / "listener.yaml").write_text(yaml.format(module=f"guide_handlers.{folder.name}"))
    return folder


def test_the_yaml_is_a_service(tmp_path: Path) -> None:
    (tmp_path / "listener.yaml").write_text(block("yaml", "digits:"))
    assert services.read(tmp_path).routes["digits"].handler == "handlers.digits:Digits"


async def test_the_handler_with_two_hooks_and_its_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "hooks"
    folder.mkdir()
    make_service(folder, block("python", "Says how friendly"), "routes:\n  s: {{handler: '{module}:Sentiment'}}\n")
    monkeypatch.syspath_prepend(str(folder))
    (folder / "words.txt").write_text("what a lovely day")
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


async def test_the_handler_with_two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    yaml = block("yaml", "both:").replace("{}", "{{}}").replace("handlers.both:", "{module}:")
    make_service(folder, block("python", "class Both"), yaml)
    monkeypatch.syspath_prepend(str(folder))

    def times(factor: float) -> FakeModel:
        tensor = {"x": ("FP32", [1])}
        return FakeModel(tensor, {"y": ("FP32", [1])}, lambda arrays: {"y": arrays["x"] * factor})

    fake = FakeTriton({"small": times(2), "large": times(10)})
    async with (
        fake.running() as triton,
        listening(folder, triton) as url,
        aiohttp.ClientSession() as session,
    ):
        await until_ready(url)
        async with session.post(f"{url}/predict", json={"instances": [[1], [2]]}) as answer:
            assert await answer.json() == {"predictions": [[2, 10], [4, 20]]}
