"""Every node of the graph, and each within each, against the real Triton: the answers tell which way was taken."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
import pytest

from listener.call import Json
from tests.integration import paths
from tests.integration.paths import FORMS, LEAVES, NODES, Form, Item, Said, Way
from tests.integration.stack import Stack, running

pytestmark = pytest.mark.triton

#: Requests on their way at a time.
_AT_ONCE = 16
_DEEP = 80
#: In the log, of a bug of ours, or of a mirror that fails although nothing is wrong with it.
_NEVER = ("unexpected failure", "never retrieved", "was destroyed", "' failed: ")


@dataclass(frozen=True)
class Route:
    """A route of the service, and what it says."""

    name: str
    form: Form
    way: Way


def _pairs() -> Iterator[tuple[str, ...]]:
    yield from ((outer, inner) for outer in NODES for inner in [*LEAVES, *NODES])


def _deep() -> Iterator[tuple[str, ...]]:
    """Some of the nodes that are three deep, with a leaf of any kind below them."""
    rng = np.random.default_rng(11)
    for _ in range(_DEEP):
        yield (*map(str, rng.choice(list(NODES), 3)), str(rng.choice(list(LEAVES))))


def routes(nodes: dict[str, Json]) -> Iterator[Route]:
    """Each pair twice: in place with objects, by references with rows; the deep ones either way.

    Args:
        nodes: receives what the references mean.
    """
    for kinds in _pairs():
        yield Route(f"o:{'>'.join(kinds)}", paths.OBJECT, paths.filled(paths.OBJECT, *kinds))
        way, named = paths.referred(paths.ROW, *kinds)
        nodes.update(named)
        yield Route(f"r:{'>'.join(kinds)}", paths.ROW, way)
    for index, kinds in enumerate(_deep()):
        form = (paths.OBJECT, paths.ROW)[index % 2]
        way, named = paths.referred(form, *kinds) if index % 4 < 2 else (paths.filled(form, *kinds), {})
        nodes.update(named)
        yield Route(f"deep {index}: {'>'.join(kinds)}", form, way)


NAMED: dict[str, Json] = {}
ROUTES = list(routes(NAMED))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("graph")
    yaml = {"default": ROUTES[0].name, "routes": {route.name: route.way.node for route in ROUTES}, "nodes": NAMED}
    service = paths.write(folder / "service", yaml, FORMS.values())
    with running(folder / "log", service=service, LISTENER_TRITON_LOG_LEVEL="error") as stack:
        print(f"ready after {stack.until(200):.1f} s: {len(ROUTES)} routes and {len(NAMED)} nodes")
        yield stack
        failed = [line for line in stack.output().splitlines() if any(word in line for word in _NEVER)]
        assert not failed, failed[0]


class Asking:
    """One client of a stack, which asks a few things at a time.

    Args:
        stack: answers.
        seed: of the requests.
    """

    def __init__(self, stack: Stack, seed: int) -> None:
        self._url, self._rng = f"{stack.url}/predict", np.random.default_rng(seed)
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self.mistakes: list[str] = []

    async def all(self, asked: Iterable[Route], times: int) -> None:
        """Asks each route that often, with other numbers each time; what is wrong comes into `mistakes`."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            for route in list(asked) * times:
                group.create_task(self._ask(session, route))

    async def _ask(self, session: aiohttp.ClientSession, route: Route) -> None:
        async with self._turn:
            items = self._items()
            way, header = (str(word) for word in self._rng.choice(["left", "right", "up"], 2))
            user = str(self._rng.integers(2))
            status, made = await self._post(session, route, items, way, header, user)
        if status != 200 or len(made.get("predictions", ())) != len(items):
            self.mistakes.append(f"{route.name}: {items}: {status} {made}")
            return
        said = {"parameter": way, "header": header}
        for item, prediction in zip(items, made["predictions"], strict=True):
            if mistake := wrong(route, item, said, prediction):
                self.mistakes.append(mistake)

    def _items(self) -> list[Item]:
        kinds = self._rng.integers(1, 4, self._rng.integers(1, 8)).tolist()
        return list(zip(self._rng.integers(10, 1000, len(kinds)).tolist(), kinds, strict=True))

    async def _post(
        self, session: aiohttp.ClientSession, route: Route, items: list[Item], way: str, header: str, user: str
    ) -> tuple[int, Any]:
        body = {
            "instances": [route.form.item(item) for item in items],
            "parameters": {"model": route.name, "to": {"way": way}},
        }
        async with session.post(self._url, json=body, headers={"X-Way": header, "X-User": user}) as answer:
            return answer.status, await answer.json()


def wrong(route: Route, item: Item, said: Said, prediction: Json) -> str | None:
    """What is wrong with a prediction; None if nothing is."""
    possible = route.way.says(item, said)
    try:
        if route.form.read(prediction) in possible:
            return None
    except (KeyError, IndexError, TypeError):
        pass
    return f"{route.name}: {item} with {dict(said)} became {prediction}, not {sorted(possible)}"


async def check(stack: Stack, asked: Iterable[Route], times: int, seed: int = 1) -> None:
    asking = Asking(stack, seed)
    await asking.all(asked, times)
    assert not asking.mistakes, "\n".join(asking.mistakes[:10]) + "\n" + stack.output()[-3000:]


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.long)])
@pytest.mark.parametrize("outer", NODES)
async def test_every_node_within_every_other_says_what_it_has_to(graph: Stack, outer: str, times: int) -> None:
    """In place and by reference, with instances that go different ways, and many requests at once."""
    asked = [route for route in ROUTES if route.name[2:].startswith(f"{outer}>")]
    assert len(asked) == 2 * (len(NODES) + len(LEAVES))
    await check(graph, asked, times)


async def test_what_is_three_deep_says_what_it_has_to(graph: Stack) -> None:
    await check(graph, [route for route in ROUTES if route.name.startswith("deep")], 3)


async def test_many_callers_of_different_routes_get_their_own(graph: Stack) -> None:
    await check(graph, itertools.islice(ROUTES, 0, None, 3), 1, seed=2)
