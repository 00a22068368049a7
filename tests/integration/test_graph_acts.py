"""What the graph promises when things fail, hang or come together, with real processes and the real Triton."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import requests

from listener.call import Json
from tests.integration import acts_service
from tests.integration.stack import Stack, command_line, running, wait_for

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("acts")
    with served(folder) as stack:
        stack.until(200)
        yield stack


@contextlib.contextmanager
def served(folder: Path, workers: int = 1) -> Iterator[Stack]:
    """A stack with two threads and one process for hooks; its service is written where there is none yet."""
    service = folder / "service"
    if not service.exists():
        acts_service.write(service)
    with running(
        folder / "log",
        service=service,
        LISTENER_WORKERS=str(workers),
        LISTENER_THREADS="2",
        LISTENER_PROCESSES="1",
        LISTENER_TRITON_LOG_LEVEL="error",
    ) as stack:
        yield stack


def ask(stack: Stack, route: str, *instances: Json, **parameters: Json) -> requests.Response:
    return stack.predict(list(instances), parameters={"model": route, **parameters})


def said(stack: Stack, route: str, *instances: Json) -> list[Json]:
    """The predictions, of rows their numbers alone."""
    answer = ask(stack, route, *instances)
    assert answer.status_code == 200, f"{answer.text}\n{stack.output()[-3000:]}"
    return [made[0] if isinstance(made, list) else made for made in answer.json()["predictions"]]


def calls(stack: Stack, handler: str) -> int:
    """How often a handler has been called."""
    (made,) = said(stack, "told", handler)
    return int(made)


class Statistics:
    """What Triton itself has counted until now: instances and executions of each model, all versions together."""

    def __init__(self, stack: Stack) -> None:
        found = re.search(r"--http-port=(\d+)", command_line(stack.triton_pid()))
        assert found
        told = requests.get(f"http://127.0.0.1:{found[1]}/v2/models/stats", timeout=5).json()["model_stats"]
        self.instances, self.executions, self.calls = Counter[str](), Counter[str](), Counter[str]()
        for each in told:
            self.instances[each["name"]] += int(each["inference_count"])
            self.executions[each["name"]] += int(each["execution_count"])
            self.calls[each["name"]] += int(each["inference_stats"]["success"]["count"])

    def since(self, earlier: Statistics) -> dict[str, tuple[int, int, int]]:
        """Instances, executions and calls of the models that were called since then."""
        pairs = zip(*((s.instances, s.executions, s.calls) for s in (self, earlier)), strict=True)
        instances, executions, calls = (now - before for now, before in pairs)
        return {name: (instances[name], executions[name], calls[name]) for name in instances}


# switch, cascade, ensemble: who is called, and with what


@pytest.mark.parametrize(("route", "digits", "models"), [("two", "12", "ra rb"), ("four", "1234", "ra rb rc rv")])
def test_64_mixed_instances_make_one_call_for_each_branch(acts: Stack, route: str, digits: str, models: str) -> None:
    items = [(100 + n, 1 + (n * 7 + n // 5) % len(digits)) for n in range(64)]
    before = Statistics(acts)
    made = said(acts, route, *map(list, items))
    assert made == [v * 10 + int(digits[kind - 1]) for v, kind in items]
    kinds = Counter(kind for _, kind in items)
    expected = {model: (kinds[kind], 1, 1) for kind, model in enumerate(models.split(), 1)}
    assert Statistics(acts).since(before) == expected


def test_a_cascade_sends_what_is_unsure_and_nothing_else_in_one_call(acts: Stack) -> None:
    items = [(100 + n, 2 if n % 5 == 0 else 4) for n in range(50)]
    before = Statistics(acts)
    assert said(acts, "sure", *map(list, items)) == [v * 10 + (1 if kind > 3 else 3) for v, kind in items]
    assert Statistics(acts).since(before) == {"ra": (50, 1, 1), "rb": (10, 1, 1), "rc": (10, 1, 1)}
    before = Statistics(acts)
    assert said(acts, "sure", [7, 3], [8, 4]) == [71, 81]
    assert Statistics(acts).since(before) == {"ra": (2, 1, 1)}


def test_the_members_of_an_ensemble_are_asked_at_the_same_time(acts: Stack) -> None:
    """Each answers once the other one has been asked."""
    assert said(acts, "both", [51, 1]) == [511 * 100 + 12]


def test_the_branches_of_a_switch_are_asked_at_the_same_time(acts: Stack) -> None:
    assert said(acts, "ways", [61, 1], [62, 2], [63, 1]) == [611, 622, 631]


# fallback, retry


def test_a_fallback_answers_whatever_fails(acts: Stack) -> None:
    assert said(acts, "failing", [7, 1], [8, 2]) == [71, 81]
    assert said(acts, "late", [5, 1]) == [58]
    assert said(acts, "late", [5000, 1]) == [50001]


def test_a_fallback_leaves_the_callers_fault_and_the_last_error(acts: Stack) -> None:
    refused, hopeless = ask(acts, "refusing", [7, 1]), ask(acts, "hopeless", [7, 1])
    assert (refused.status_code, refused.json()) == (400, {"error": "instances[0]: refused on purpose"})
    assert (hopeless.status_code, hopeless.json()) == (503, {"error": "gone on purpose"})


def test_a_retry_waits_for_what_is_gone_and_for_no_longer(acts: Stack) -> None:
    before = calls(acts, "Stubborn")
    assert said(acts, "patient", [31, 2]) == [317]
    assert calls(acts, "Stubborn") - before == 3
    answer = ask(acts, "patient", [32, 3])
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert calls(acts, "Stubborn") - before == 6


@pytest.mark.parametrize(("route", "handler", "status"), [("raising", "Raises", 500), ("refused", "Refuses", 400)])
def test_nothing_else_is_tried_again(acts: Stack, route: str, handler: str, status: int) -> None:
    before = calls(acts, handler)
    assert ask(acts, route, [1, 1]).status_code == status
    assert calls(acts, handler) - before == 1


def test_a_retry_ends_with_its_time(acts: Stack) -> None:
    begin, before = time.monotonic(), calls(acts, "NeverThere")
    assert ask(acts, "bounded", [1, 1]).status_code in (503, 504)
    assert time.monotonic() - begin < 5  # of 100 attempts, which would take longer than a minute
    made = calls(acts, "NeverThere")
    assert 2 <= made - before < 50
    time.sleep(1.5)
    assert calls(acts, "NeverThere") == made


def test_a_fallback_answers_throughout_the_death_of_triton(acts: Stack) -> None:
    assert said(acts, "alive", [7, 1]) == [71]
    assert ask(acts, "two", [7, 1]).status_code == 200
    os.kill(acts.triton_pid(), signal.SIGKILL)
    made, others = list[float](), set[int]()

    def is_back() -> bool:
        made.extend(said(acts, "alive", [7, 1]))
        others.add(ask(acts, "two", [7, 1]).status_code)
        return 77 in made and made[-1] == 71

    wait_for(is_back, 30, lambda: f"{made}\n{acts.output()}")
    assert set(made) == {71, 77}
    assert 503 in others
    acts.until(200)
    assert said(acts, "two", [7, 1], [8, 2]) == [71, 82]


def test_what_is_missing_is_fallen_back_from_and_harms_no_mirrored_answer(tmp_path: Path) -> None:
    """A model that is not in the repository. Whether health is 200 without it is another matter."""
    acts_service.write(
        tmp_path / "service",
        instead={"fallback": [{"model": "absent"}, "ra"]},
        version={"fallback": ["rv@7", "ra"]},
        watched={"shadow": {"node": "rb", "mirror": "absent"}},
    )
    with served(tmp_path) as stack:
        wait_for(lambda: stack.health()[0] != 0, 30, stack.output)
        wait_for(lambda: ask(stack, "instead", [7, 1]).status_code == 200, 30, stack.output)
        assert said(stack, "instead", [7, 1], [8, 2]) == [71, 81]
        assert said(stack, "version", [7, 1]) == [71]
        assert said(stack, "watched", [7, 1]) == [72]
        wait_for(lambda: "the mirror of 'watched' failed: model 'absent'" in stack.output(), 5, stack.output)
        assert stack.stop() == 0


# split


def arms(stack: Stack, users: list[str], at_once: int = 500) -> list[float]:
    made = list[float]()
    for begin in range(0, len(users), at_once):
        part = users[begin : begin + at_once]
        made += said(stack, "split", *({"v": [5], "kind": [1], "user": user} for user in part))
    return made


def test_ten_thousand_keys_keep_their_arm_over_a_restart_and_with_other_workers(tmp_path: Path) -> None:
    users = [f"user-{n}" for n in range(10_000)]
    with served(tmp_path, workers=2) as stack:
        wait_for(lambda: stack.output().count('"message":"ready"') == 2, 60, stack.output)  # each worker for itself
        before = arms(stack, users)
        assert stack.stop() == 0
    shares = {arm: before.count(arm) / len(users) for arm in set(before)}
    print("shares of 70, 20 and 10 %:", shares)
    assert shares == pytest.approx({516: 0.7, 526: 0.2, 536: 0.1}, abs=0.02)
    with served(tmp_path) as stack:
        stack.until(200)
        assert arms(stack, users[::-1], 333) == before[::-1]
        assert stack.stop() == 0


# shadow


#: Longer than any answer here may be held.
_HELD = aiohttp.ClientTimeout(total=20)


class Load:
    """Requests of one route, a few at a time.

    Args:
        stack: answers.
        route: is asked.
        digits: those that it writes.
    """

    def __init__(self, stack: Stack, route: str, digits: int) -> None:
        self._stack, self._route, self._digits = stack, route, str(digits)
        self.answers: Counter[tuple[int, str]] = Counter()
        self.slowest = 0.0  # seconds

    async def send(self, number: int, at_once: int = 8) -> None:
        turn = asyncio.Semaphore(at_once)
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            for n in range(number):
                group.create_task(self._one(session, turn, n))

    async def _one(self, session: aiohttp.ClientSession, turn: asyncio.Semaphore, n: int) -> None:
        body = {"instances": [[n, 1], [n + 1, 2]], "parameters": {"model": self._route}}
        async with turn:
            begin = time.monotonic()
            async with session.post(f"{self._stack.url}/predict", json=body, timeout=_HELD) as answer:
                made = await answer.json()
            self.slowest = max(self.slowest, time.monotonic() - begin)
        right = made.get("predictions") == [[int(f"{n}{self._digits}"), 1], [int(f"{n + 1}{self._digits}"), 2]]
        self.answers[answer.status, "right" if right else str(made)] += 1


@pytest.fixture(scope="module")
def shadows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with mirrors that hang on while others are tried; at the end it stops in good order all the same."""
    folder = tmp_path_factory.mktemp("shadows")
    with served(folder) as stack:
        stack.until(200)
        yield stack
        begin = time.monotonic()
        assert stack.stop() == 0
        print(f"stopped after {time.monotonic() - begin:.1f} s")
        assert not [
            line for line in stack.output().splitlines() if "never retrieved" in line or "was destroyed" in line
        ]


@pytest.mark.parametrize("mirror", ["hanging", "blocking", "frozen", "deaf", "raising", "gone"])
async def test_a_mirror_delays_and_fails_nobody(shadows: Stack, mirror: str) -> None:
    load = Load(shadows, f"mirror {mirror}", 2)
    await load.send(200)
    print(f"{mirror}: slowest of 200: {load.slowest * 1e3:.0f} ms")
    assert load.answers == {(200, "right"): 200}
    assert load.slowest < 1
    if mirror in ("hanging", "blocking"):  # no more than the limit, and these go on for ever
        assert calls(shadows, mirror.title()) == 2
    assert shadows.health()[0] == 200


@pytest.mark.parametrize(("route", "digits"), [("threads", 8), ("processes", 19), ("lost threads", 8)])
async def test_a_mirror_that_blocks_takes_nothing_that_the_answer_needs(
    shadows: Stack, route: str, digits: int
) -> None:
    """Neither the threads nor the processes of hooks, of which this stack has 2 and 1."""
    load = Load(shadows, f"beside {route}", digits)
    await load.send(200)
    print(f"beside {route}: slowest of 200: {load.slowest * 1e3:.0f} ms")
    assert load.answers == {(200, "right"): 200}
    assert load.slowest < 1
