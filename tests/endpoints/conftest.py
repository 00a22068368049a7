"""A service with a model of each kind, in front of a fake Triton that remembers what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import yarl
from aiohttp import web

from listener import app, settings
from listener.testing import FakeModel, FakeTriton, Tensors

HANDLERS = """\
import asyncio

from listener import Call, Handler, InstanceError, Reply

ended = []


class Media(Handler):
    model = "twice"

    def preprocess(self, instance, context):
        if isinstance(instance, bytes):
            return {"X": [float(len(instance)), float(len(context.media_type))]}
        raise InstanceError(f"{type(instance).__name__} of {context.media_type!r}")


class Telling(Handler):
    model = "twice"

    async def predict(self, call: Call):
        try:
            for word in call.instances[0]:
                if word == "bug":
                    raise ValueError("a secret")
                if word == "bad":
                    raise InstanceError("is bad")
                if word == "third is bad":
                    raise InstanceError("is bad", 3)
                if word == "unsayable":
                    yield object()
                if word == "endless":
                    while True:
                        yield "x" * 10000
                if word == "ticking":
                    while True:
                        yield 1
                if word == "deadline":
                    yield call.context.remaining() > 3600
                elif isinstance(word, float):
                    await asyncio.sleep(word)
                else:
                    yield word
        finally:
            ended.append(call.context.request_id)


class Once(Handler):
    model = "twice"

    async def predict(self, call: Call):
        said = [call.context.remaining() < 60, call.context.version, type(call.instances).__name__]
        return Reply([said] * len(call.instances))
"""
SERVICE = """\
default: plain
routes:
  plain: {model: twice}
  media: {handler: "said_by_endpoints:Media"}
  telling: {handler: "said_by_endpoints:Telling"}
  once: {handler: "said_by_endpoints:Once"}
"""


@dataclass
class Asked:
    """A request as the fake Triton got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Recording(FakeTriton):
    """Models of each kind; it remembers what it is asked beside the polls for readiness.

    Attributes:
        asked: requests, in order.
        answer: in place of its own answer, if there is one.
        gone: requests whose client left before the answer.
    """

    def __init__(self) -> None:
        two = {"X": ("FP32", [2])}
        super().__init__(
            {
                "twice": FakeModel(two, {"Y": ("FP32", [2])}, twice, 4, versions=("1", "2", "10")),
                "text": FakeModel({"X": ("BYTES", [1])}, {"Y": ("BYTES", [1])}, lambda given: {"Y": given["X"]}),
                "pair": FakeModel(
                    {"A": ("INT32", [1]), "B": ("INT32", [1])},
                    {"SUM": ("INT32", [1]), "DIFF": ("INT32", [1])},
                    lambda given: {"SUM": given["A"] + given["B"], "DIFF": given["A"] - given["B"]},
                ),
                "whole": FakeModel(
                    {"A": ("FP32", [-1]), "B": ("FP32", [-1])},
                    {"SUM": ("FP32", [1]), "A": ("FP32", [-1])},
                    lambda given: {"SUM": given["A"].sum(keepdims=True) + given["B"].sum(), "A": given["A"]},
                    0,
                ),
                "matrix": FakeModel(
                    {"X": ("FP32", [-1, 2])}, {"Y": ("FP32", [2])}, lambda given: {"Y": given["X"].sum(axis=0)}, 0
                ),
                "talk": FakeModel({"X": ("BYTES", [1])}, {"Y": ("BYTES", [1])}, only_events, 0, events=self.talk),
                "a b%ä": FakeModel(two, {"Y": ("FP32", [2])}, twice, 4),
            }
        )
        self.asked: list[Asked] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.gone = 0

    def application(self) -> web.Application:
        made = super().application()
        made.middlewares.append(self._recorded)
        return made

    @web.middleware
    async def _recorded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(request.method, request.raw_path, headers, await request.read()))
        try:
            return await (self.answer or handler)(request)
        except asyncio.CancelledError:
            self.gone += 1
            raise

    def asked_for(self, path: str) -> list[Asked]:
        """The requests for a path."""
        return [asked for asked in self.asked if asked.path == path]

    async def talk(self, given: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Says each word by itself; some are seconds to wait, or failures."""
        words = given.get("X")
        if isinstance(words, list) and words:
            words = words[0]
        if not isinstance(words, str):
            raise ValueError("X is no text")
        for word in words.split():
            if word == "fail":
                raise ValueError("failed in between")
            if word == "endless":
                while True:
                    yield {"Y": "x" * 10000}
            if word.startswith("0."):
                await asyncio.sleep(float(word))
            else:
                yield {"Y": word}


def only_events(inputs: Tensors) -> Tensors:
    raise ValueError("doesn't support models with decoupled transaction policy")


def twice(inputs: Tensors) -> Tensors:
    return {"Y": inputs["X"] * np.float32(2)}


@dataclass
class Served:
    """A listener and what stands behind it.

    Attributes:
        listener: what is served.
        port: of it.
        triton: the fake.
        http: a client.
    """

    listener: app.Listener
    port: int
    triton: Recording
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Status and body of an answer: JSON where it is, else bytes."""
        status, _, body = await self.told(method, path, **more)
        return status, body

    async def told(self, method: str, path: str, **more: Any) -> tuple[int, dict[str, str], Any]:
        """The same with the headers, whose names are in lower case. The path is sent as it is written."""
        async with self.http.request(method, yarl.URL(f"{self.url}{path}", encoded=True), **more) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            body = await answer.read()
            is_json = answer.content_type == "application/json" and body
            return answer.status, headers, await answer.json() if is_json else body

    async def predict(self, document: Any, path: str = "/predict", **headers: str) -> tuple[int, Any]:
        return await self.ask("POST", path, json=document, headers=headers)


Serve = Callable[..., contextlib.AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serves with settings of the test's own."""
    (tmp_path / "said_by_endpoints.py").write_text(HANDLERS)
    (tmp_path / "listener.yaml").write_text(SERVICE)

    @contextlib.asynccontextmanager
    async def served(**overrides: Any) -> AsyncIterator[Served]:
        triton = Recording()
        async with triton.running() as behind:
            given = {"triton_url": behind, "triton_metrics_url": behind, "timeout": 5, "host": "127.0.0.1", **overrides}
            listener = app.Listener(settings.read({}, service=tmp_path, **given))
            bound = socket.create_server(("127.0.0.1", 0))
            async with app.serving(listener, bound), aiohttp.ClientSession() as http:
                async with asyncio.timeout(10):
                    while listener.missing():
                        await asyncio.sleep(0.01)
                triton.asked.clear()
                yield Served(listener, bound.getsockname()[1], triton, http)

    return served


@pytest.fixture
async def served(serve: Serve) -> AsyncIterator[Served]:
    async with serve() as found:
        yield found
