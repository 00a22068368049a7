"""Whether predictions can be made now: through the whole life of a Triton that is none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable

import pytest

from listener import readiness as module
from listener.call import Call, Reply
from listener.errors import HandlerFailed, Unavailable
from listener.needs import Leaf, Need, OneOf
from listener.readiness import Readiness, WarmUp

DOWN = ["Triton is not ready"]


class FakeServer:
    def __init__(self) -> None:
        self.up: bool | Exception = True
        self.answers = True
        self.looks = self.introduced = 0

    async def server_ready(self) -> bool:
        self.looks += 1
        await asyncio.sleep(0)
        if isinstance(self.up, Exception):
            raise self.up
        return self.up

    async def introduce(self) -> None:
        self.introduced += 1


class FakeIndex:
    def __init__(self, models: dict[str, FakeModel]) -> None:
        self.models = models
        self.asked = 0
        self.fails: Exception | None = None
        self.refreshed = 0
        self.refused: list[str] = []

    async def refresh(self) -> None:
        self.refreshed += 1
        if self.fails:
            raise self.fails

    async def ready_names(self) -> frozenset[str]:
        self.asked += 1
        if self.fails:
            raise self.fails
        return frozenset(name for name, model in self.models.items() if not model.lack)

    def refuse(self, sentence: str) -> None:
        self.refused.append(sentence)


class FakeModel:
    def __init__(self) -> None:
        self.lack: str | Exception | None = None
        self.spec_fails: Exception | None = None
        self.reads = 0
        self.refusal = ""

    async def lacks(self, version: str = "") -> str | None:
        await asyncio.sleep(0)
        if isinstance(self.lack, Exception):
            raise self.lack
        return self.lack

    async def read_spec(self) -> None:
        self.reads += 1
        if self.spec_fails:
            raise self.spec_fails
        self.refusal = ""

    def refuse(self, sentence: str) -> None:
        self.refusal = sentence


class FakeRoute:
    """A node that remembers what was sent through it."""

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        if self.fails:
            raise self.fails
        return Reply(call.instances)


class Stack:
    """A readiness being watched, and the fakes that it watches."""

    def __init__(self, models: str = "ab", routes: str = "r", timeout: float = 30.0) -> None:
        self.server = FakeServer()
        self.models = {name: FakeModel() for name in models}
        self.index = FakeIndex(self.models)
        self.routes = {name: FakeRoute() for name in routes}
        needs: dict[str, Need] = {name: Leaf(name, name) for name in models}
        needs |= {name: Leaf(name, models[0]) for name in routes}
        warm_up = {
            name: WarmUp(route, f"example of {name}", frozenset(models[:1])) for name, route in self.routes.items()
        }
        self.readiness = Readiness(self.server, self.index, self.models, needs, warm_up, timeout)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[Stack]:
        watching = asyncio.create_task(self.readiness.watch())
        await self.look()
        yield self
        assert not watching.done()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    async def look(self, times: int = 1) -> list[str]:
        """What is missing after so many whole looks from now on."""
        enough = self.server.looks + times + 1  # one may be under way, and the one after the last must have begun
        async with asyncio.timeout(5):
            while self.server.looks <= enough:
                await asyncio.sleep(0)
        return self.readiness.missing

    @property
    def warm_ups(self) -> dict[str, int]:
        return {name: len(route.calls) for name, route in self.routes.items()}

    @property
    def reads(self) -> dict[str, int]:
        return {name: model.reads for name, model in self.models.items()}


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PERIOD_READY", 0)
    monkeypatch.setattr(module, "_PERIOD_WAITING", 0)
    monkeypatch.setattr(module, "_PERIOD_FAILED", 0)


def test_nothing_is_ready_before_it_was_looked_at() -> None:
    readiness = Stack().readiness
    assert (readiness.ready, readiness.missing) == (False, ["Triton has not been asked yet"])


async def test_all_is_ready_once_specs_are_read_and_routes_are_warm() -> None:
    async with Stack(routes="rs").watched() as stack:
        assert await stack.look(5) == []
        assert stack.readiness.ready
        assert stack.reads == {"a": 1, "b": 1}
        assert stack.warm_ups == {"r": 1, "s": 1}


async def test_a_warm_up_is_a_call_with_the_example_an_id_and_a_deadline() -> None:
    before = time.monotonic()
    async with Stack(timeout=30).watched() as stack:
        (call,) = stack.routes["r"].calls
    assert list(call.instances) == ["example of r"]
    assert call.context.request_id == "warm-up-r"
    assert before + 30 <= call.context.deadline <= time.monotonic() + 30


async def test_a_service_without_examples_is_ready_without_warm_up() -> None:
    async with Stack(routes="").watched() as stack:
        assert await stack.look() == []


async def test_nothing_is_asked_of_models_while_triton_is_down() -> None:
    stack = Stack()
    stack.server.up = False
    async with stack.watched():
        assert await stack.look(3) == DOWN
        assert stack.reads == {"a": 0, "b": 0}
        assert stack.warm_ups == {"r": 0}


async def test_every_unready_model_is_named_and_no_route_is_warmed_up() -> None:
    stack = Stack(models="abc")
    stack.models["a"].lack, stack.models["c"].lack = "is not ready", "is not in the repository"
    async with stack.watched():
        assert await stack.look() == ["model 'a' is not ready", "model 'c' is not in the repository"]
        assert stack.warm_ups == {"r": 0}


async def test_a_spec_that_cannot_be_read_is_tried_again() -> None:
    stack = Stack()
    stack.models["b"].spec_fails = Unavailable("the configuration cannot be read")
    async with stack.watched():
        assert await stack.look(3) == ["the configuration cannot be read"]
        assert stack.warm_ups == {"r": 0}
        assert stack.reads["a"] == 1
        assert stack.reads["b"] > 1
        stack.models["b"].spec_fails = None
        assert await stack.look() == []


async def test_a_failed_warm_up_is_told_and_tried_again() -> None:
    stack = Stack(routes="rs")
    stack.routes["r"].fails = HandlerFailed("preprocess", "r")
    async with stack.watched():
        assert await stack.look(3) == [
            "the warm-up of route 'r' failed: the handler of 'r' failed in preprocess; the log has the reason"
        ]
        assert stack.warm_ups["s"] == 1
        assert stack.warm_ups["r"] > 1
        stack.routes["r"].fails = None
        assert await stack.look() == []


async def test_a_restarted_triton_is_read_and_warmed_up_again() -> None:
    async with Stack().watched() as stack:
        stack.server.up = False
        assert await stack.look() == DOWN
        assert not stack.readiness.ready
        stack.server.up = True
        assert await stack.look(3) == []
        assert stack.reads == {"a": 2, "b": 2}
        assert stack.warm_ups == {"r": 2}


async def test_a_model_that_was_away_is_read_again_and_every_route_is_warmed_up_again() -> None:
    async with Stack().watched() as stack:
        stack.models["a"].lack = "is not ready"
        assert await stack.look() == ["model 'a' is not ready"]
        stack.models["a"].lack = None
        assert await stack.look(3) == []
        assert stack.reads == {"a": 2, "b": 1}
        assert stack.warm_ups == {"r": 2}


async def test_the_whole_life() -> None:
    stack = Stack(models="a")
    server, model, route = stack.server, stack.models["a"], stack.routes["r"]
    server.up, model.lack, route.fails = False, "is not ready", Unavailable("cold")
    async with stack.watched():
        seen = [list(stack.readiness.missing)]
        steps: list[Callable[[], None]] = [
            lambda: setattr(server, "up", True),
            lambda: setattr(model, "lack", None),
            lambda: setattr(route, "fails", None),
            lambda: setattr(server, "up", False),
            lambda: setattr(server, "up", True),
        ]
        for step in steps:
            step()
            seen.append(list(await stack.look()))
    assert seen == [
        DOWN,
        ["model 'a' is not ready"],
        ["the warm-up of route 'r' failed: cold"],
        [],
        DOWN,
        [],
    ]


@pytest.mark.parametrize("where", ["server", "model", "spec", "warm-up"])
async def test_a_bug_does_not_end_the_watch(caplog: pytest.LogCaptureFixture, where: str) -> None:
    stack = Stack(models="a")
    error = RuntimeError("a bug")
    if where == "server":
        stack.server.up = error
    elif where == "model":
        stack.models["a"].lack = error
    elif where == "spec":
        stack.models["a"].spec_fails = error
    else:
        stack.routes["r"].fails = error
    async with stack.watched():
        assert await stack.look() == ["the readiness check failed; the log has the reason"]
        assert "RuntimeError: a bug" in caplog.text
        stack.server.up = True
        stack.models["a"].lack = stack.models["a"].spec_fails = stack.routes["r"].fails = None
        assert await stack.look() == []


async def test_only_changes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "listener.readiness")
    stack = Stack()
    stack.models["a"].lack = stack.models["b"].lack = "is not ready"
    async with stack.watched():
        await stack.look(3)
        stack.models["a"].lack = stack.models["b"].lack = None
        await stack.look(3)
        stack.server.up = False
        await stack.look(3)
    assert [record.getMessage() for record in caplog.records] == [
        "not ready: model 'a' is not ready; model 'b' is not ready",
        "not ready: route 'r' is being warmed up",
        "ready",
        "not ready: Triton is not ready",
    ]


# What is not waited for


class Alternatives(Stack):
    """Route `r` takes `a`, or `b` in its place; `m` is a mirror. Each has an example."""

    def __init__(self) -> None:
        super().__init__("abm", "")
        self.steps = {name: FakeRoute() for name in "abm"}
        warm_up = {name: WarmUp(step, f"example of {name}", frozenset(name)) for name, step in self.steps.items()}
        needs: dict[str, Need] = {"r": OneOf((Leaf("a", "a"), Leaf("b", "b")))}
        self.readiness = Readiness(self.server, self.index, self.models, needs, warm_up, 30.0)

    @property
    def calls(self) -> dict[str, int]:
        return {name: len(step.calls) for name, step in self.steps.items()}


async def test_one_of_several_is_enough_and_a_mirror_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    stack = Alternatives()
    stack.models["a"].lack = stack.models["m"].lack = "is not in the repository"
    async with stack.watched():
        assert await stack.look(3) == []
        assert (stack.reads, stack.calls) == ({"a": 0, "b": 1, "m": 0}, {"a": 0, "b": 1, "m": 0})
    notes = [record.getMessage() for record in caplog.records if "all the same" in record.getMessage()]
    assert notes == [
        "ready all the same: model 'a' is not in the repository; model 'm' is not in the repository",
    ]


async def test_what_comes_later_is_read_and_warmed_up() -> None:
    stack = Alternatives()
    stack.models["a"].lack = stack.models["m"].lack = "is not ready"
    async with stack.watched():
        assert await stack.look(2) == []
        stack.models["a"].lack = stack.models["m"].lack = None
        assert await stack.look(4) == []
        assert (stack.reads, stack.calls) == ({"a": 1, "b": 1, "m": 1}, {"a": 1, "b": 1, "m": 1})
        stack.models["a"].lack = "is not ready"
        assert await stack.look(2) == []
        stack.models["a"].lack = None
        await stack.look(4)
        assert (stack.reads["a"], stack.calls) == (2, {"a": 2, "b": 1, "m": 1})


async def test_without_any_of_them_health_names_them_all() -> None:
    stack = Alternatives()
    stack.models["a"].lack = stack.models["b"].lack = "is not ready"
    async with stack.watched():
        said = ["route 'r' has no alternative that is ready: model 'a' is not ready; model 'b' is not ready"]
        assert await stack.look(2) == said
        assert stack.readiness.lacks("r") == said
        assert stack.calls == {"a": 0, "b": 0, "m": 0}
        stack.models["b"].lack = None
        assert await stack.look(2) == []
        assert stack.readiness.lacks("r") == []
        stack.server.up = False
        await stack.look()
        assert stack.readiness.lacks("r") == DOWN


async def test_an_alternative_that_cannot_be_warmed_up_leaves_the_other_one() -> None:
    stack = Alternatives()
    stack.steps["a"].fails = HandlerFailed("preprocess", "a")
    async with stack.watched():
        assert await stack.look(3) == []
        assert stack.calls["b"] == 1
        stack.models["b"].lack = "is not ready"
        (said,) = await stack.look(2)
        assert said.startswith("route 'r' has no alternative that is ready: the warm-up of route 'a' failed: ")
        assert said.endswith("; model 'b' is not ready")
        stack.steps["a"].fails = None
        assert await stack.look(3) == []


async def test_a_warm_up_that_nobody_waits_for_does_not_hold_up_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    stack = Alternatives()
    hang = asyncio.Event()

    async def hanging(call: Call) -> Reply:
        await hang.wait()
        raise RuntimeError("a bug")

    stack.readiness._warm_up["m"] = WarmUp(hanging, 1, frozenset("m"))  # type: ignore[index]
    async with stack.watched():
        assert await stack.look(5) == []
        stack.server.up = False
        assert await stack.look() == DOWN
        stack.server.up = True
        assert await stack.look(3) == []
        hang.set()
        assert await stack.look(3) == []
    assert "RuntimeError: a bug" in caplog.text


async def test_a_spec_that_cannot_be_read_lacks_as_its_model_does() -> None:
    stack = Alternatives()
    stack.models["a"].spec_fails = Unavailable("cannot be read")
    async with stack.watched():
        assert await stack.look(3) == []
        assert stack.calls["a"] == 0
        stack.models["b"].lack = "is not ready"
        assert await stack.look(2) != []


async def test_a_version_is_asked_for_by_its_number() -> None:
    class Versions(FakeModel):
        async def lacks(self, version: str = "") -> str | None:
            return None if version in ("", "1") else f"has no version {version} that is ready"

    stack = Stack("a", "")
    stack.models["a"] = Versions()
    needs: dict[str, Need] = {"one": Leaf("a", "a", "1"), "two": Leaf("a", "a", "2")}
    stack.readiness = Readiness(stack.server, stack.index, stack.models, needs, {}, 30.0)
    async with stack.watched():
        assert await stack.look() == ["model 'a' has no version 2 that is ready"]
        assert (stack.readiness.lacks("one"), stack.readiness.lacks("two") != []) == ([], True)


# What is refused at once


def refusals(stack: Stack) -> dict[str, str]:
    return {name: model.refusal for name, model in stack.models.items() if model.refusal}


async def one_look(stack: Stack) -> None:
    stack.readiness._tell(await stack.readiness._look())


async def test_a_model_that_is_lacking_twice_in_a_row_is_refused_until_it_is_read() -> None:
    stack = Stack(routes="")
    await one_look(stack)
    for lack, refused in [
        ("is not ready", {}),
        (None, {}),
        ("is not ready", {}),
        ("is not in the repository", {"b": "model 'b' is not in the repository"}),
    ]:
        stack.models["b"].lack = lack
        await one_look(stack)
        assert refusals(stack) == refused
        assert stack.readiness.ready is (lack is None)
    stack.models["b"].lack, stack.models["b"].spec_fails = None, Unavailable("cannot be read")
    await one_look(stack)
    assert refusals(stack) == refused
    stack.models["b"].spec_fails = None
    await one_look(stack)
    assert (refusals(stack), stack.readiness.missing) == ({}, [])


async def test_it_is_called_again_before_the_warm_up() -> None:
    stack = Stack("a")
    await one_look(stack)
    stack.models["a"].lack = "is not ready"
    await one_look(stack)
    await one_look(stack)
    assert refusals(stack) == {"a": "model 'a' is not ready"}
    stack.models["a"].lack = None
    stack.routes["r"].fails = Unavailable("cold")
    await one_look(stack)
    assert refusals(stack) == {}
    assert stack.readiness.missing == ["the warm-up of route 'r' failed: cold"]


async def test_a_triton_that_is_silent_twice_in_a_row_is_not_called() -> None:
    stack = Stack(routes="")
    server = stack.server
    await one_look(stack)
    for up, refused in [(False, 0), (True, 0), (False, 0), (False, 1), (False, 2)]:
        server.up = server.answers = up
        await one_look(stack)
        assert len(stack.index.refused) == refused
        assert stack.readiness.missing == ([] if up else DOWN)
    assert set(stack.index.refused) == set(DOWN)
    reads = sum(stack.reads.values())
    server.up = server.answers = True
    await one_look(stack)
    assert sum(stack.reads.values()) == reads + 2
    assert stack.readiness.ready


async def test_a_triton_that_says_no_while_it_loads_one_model_is_called_for_the_others() -> None:
    stack = Stack(routes="")
    await one_look(stack)
    stack.server.up, stack.models["b"].lack = False, "is not ready"
    for _ in range(3):
        await one_look(stack)
    assert (refusals(stack), stack.index.refused) == ({"b": "model 'b' is not ready"}, [])
    assert stack.readiness.missing == DOWN
    stack.index.fails = Unavailable("Triton does not say which models it has")
    await one_look(stack)
    assert refusals(stack) == {"b": "model 'b' is not ready"}
    stack.index.fails = None
    stack.models["b"].lack, stack.models["a"].lack = None, "is not ready"
    await one_look(stack)
    assert refusals(stack) == {}
    await one_look(stack)
    assert refusals(stack) == {"a": "model 'a' is not ready"}


async def test_what_was_refused_for_silence_is_called_once_triton_has_it_though_it_loads_others() -> None:
    stack = Stack(routes="")
    await one_look(stack)
    stack.server.up = stack.server.answers = False
    await one_look(stack)
    await one_look(stack)
    before = stack.reads
    stack.server.answers, stack.models["b"].lack = True, "is not ready"
    await one_look(stack)
    assert stack.reads == {"a": before["a"] + 1, "b": before["b"]}


async def test_a_triton_that_starts_is_not_asked_which_models_it_has_again_and_again() -> None:
    stack = Stack(routes="")
    stack.server.up = False
    for _ in range(3):
        await one_look(stack)
    assert (stack.index.asked, refusals(stack)) == (0, {})
