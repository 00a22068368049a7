"""Which models and versions Triton has, as it changes."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import numpy as np
import pytest

from listener.errors import Unavailable
from listener.tensors import ModelSpec, TensorSpec
from listener.triton import catalogue as module
from listener.triton.catalogue import Catalogue
from listener.triton.client import TritonClient


class Asked(TritonClient):
    """A Triton that counts how often it is asked for its index and for configurations."""

    def __init__(self, **models: tuple[str, ...]) -> None:
        super().__init__("http://127.0.0.1:1")
        self.models = models
        self.silent = False
        self.looks = 0
        self.specs: list[str] = []
        self.unready: set[str] = set()
        self.pause = 0.0

    async def index(self) -> dict[str, tuple[str, ...]]:
        self.looks += 1
        await asyncio.sleep(self.pause)
        if self.silent:
            raise Unavailable("Triton does not say which models it has")
        return dict(self.models)

    async def spec(self, name: str) -> ModelSpec:
        self.specs.append(name)
        if name in self.unready:
            raise Unavailable(f"the configuration of model {name!r} cannot be read from Triton")
        tensors = (TensorSpec("X", "FP32", (1,)),)
        return ModelSpec(name, tensors, tensors, 4)

    async def model_ready(self, name: str, version: str = "") -> bool:
        return (version or "1") in self.models.get(name, ())


def catalogue(client: Asked, *routed: str) -> Catalogue:
    return Catalogue(client, lambda name: True, routed)


@pytest.fixture
def impatient() -> Any:
    """Triton may be asked again at once."""
    with mock.patch.object(module, "_ASK_AGAIN", -1.0):
        yield


async def test_before_triton_has_spoken_nothing_is_known() -> None:
    """Which is no reason to say that there are no models."""
    client = Asked(m=("1",))
    client.silent = True
    found = catalogue(client, "r")
    with pytest.raises(Unavailable, match=r"^Triton has not said yet which models it has$"):
        found.names()
    for _ in range(3):
        for question in (found.find("m"), found.versions("m"), found.has_version("m", "1")):
            with pytest.raises(Unavailable, match=r"^Triton does not say which models it has$"):
                await question
    assert client.looks == 1  # it is not asked by every request
    with pytest.raises(Unavailable):
        await found.refresh()
    client.silent = False
    await found.refresh()
    assert found.names() == ["m"]
    assert await found.find("m") is not None


async def test_an_empty_repository_is_known_to_be_empty() -> None:
    found = catalogue(Asked())
    await found.refresh()
    assert found.names() == []
    assert await found.find("m") is None


async def test_a_model_is_read_when_it_is_first_asked_for() -> None:
    client = Asked(m=("1",), n=("1",))
    found = catalogue(client)
    await found.refresh()
    assert (found.names(), client.specs) == (["m", "n"], [])
    model = await found.find("m")
    assert model is not None
    assert (model.name, model.spec.name) == ("m", "m")
    assert await found.find("m") is model
    assert client.specs == ["m"]


async def test_after_a_start_of_triton_it_is_read_anew() -> None:
    client = Asked(m=("1",))
    found = catalogue(client)
    await found.refresh()
    model = await found.find("m")
    await found.refresh()
    assert await found.find("m") is model
    assert client.specs == ["m", "m"]


async def test_a_routed_model_is_read_by_others() -> None:
    client = Asked(m=("1",))
    found = catalogue(client, "m")
    await found.refresh()
    assert await found.find("m") is found.routed["m"]
    assert client.specs == []


async def test_a_model_that_cannot_be_read_is_tried_again() -> None:
    client = Asked(m=("1",))
    client.unready = {"m"}
    found = catalogue(client)
    await found.refresh()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await found.find("m")
    client.unready = set()
    assert await found.find("m") is not None
    assert client.specs == ["m"] * 3


async def test_for_what_is_not_there_triton_is_not_asked_by_every_request() -> None:
    client = Asked(m=("1",))
    found = catalogue(client)
    await found.refresh()
    for number in range(20):
        assert await found.find(f"x{number}") is None
        assert await found.versions(f"x{number}") == ()
        assert not await found.has_version("m", f"{number + 2}")
    assert client.looks == 1


@pytest.mark.usefixtures("impatient")
async def test_what_has_come_since_is_found() -> None:
    client = Asked(m=("1",))
    found = catalogue(client)
    await found.refresh()
    client.models = {"m": ("1", "2"), "n": ("1",)}
    assert await found.has_version("m", "2")
    assert await found.find("n") is not None
    assert (await found.versions("m"), found.names()) == (("1", "2"), ["m", "n"])


async def test_all_who_ask_for_a_new_model_at_once_find_it() -> None:
    """One asks Triton; the others wait for what it hears, and are not told that there is no such model."""
    client = Asked()
    found = catalogue(client)
    await found.refresh()
    client.models, client.pause = {"m": ("1",)}, 0.05
    with mock.patch.object(module, "_ASK_AGAIN", 0.01):
        await asyncio.sleep(0.02)
        models = await asyncio.gather(*(found.find("m") for _ in range(20)))
    assert None not in models
    assert client.looks == 2


async def test_whoever_asks_may_be_cancelled_and_the_next_one_asks() -> None:
    client = Asked(m=("1",))
    client.pause = 9
    found = catalogue(client)
    asking = [asyncio.create_task(found.find("m")) for _ in range(3)]
    await asyncio.sleep(0.01)
    client.pause = 0
    asking[0].cancel()
    assert await asking[1] is not None
    assert await asking[2] is not None
    assert client.looks == 2


@pytest.mark.usefixtures("impatient")
async def test_a_triton_that_has_fallen_silent_is_no_proof_that_a_model_is_not_there() -> None:
    client = Asked(m=("1",))
    found = catalogue(client)
    await found.refresh()
    client.silent = True
    with pytest.raises(Unavailable):
        await found.find("n")
    assert await found.find("m") is not None  # which it had
    assert await found.has_version("m", "1")


async def test_versions_and_readiness_are_those_of_the_index_and_of_triton() -> None:
    client = Asked(m=("1", "3"), unready=())
    found = catalogue(client)
    await found.refresh()
    assert await found.versions("m") == ("1", "3")
    assert await found.versions("unready") == ()
    assert [await found.has_version("m", version) for version in ("1", "2", "3", "", "03")] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert await found.ready("m")
    assert await found.ready("m", "3")
    assert not await found.ready("m", "2")
    assert not await found.ready("unready")


async def test_a_triton_that_is_away_is_asked_about_no_model_until_it_is_back() -> None:
    client = Asked(r=("1",), m=("1",))
    found = catalogue(client, "r")
    await found.refresh()
    await found.routed["r"].read_spec()
    routed, model = await found.find("r"), await found.find("m")
    assert routed
    assert model
    found.refuse("Triton is not ready")
    assert found.refusal == "Triton is not ready"
    client.specs.clear()
    row = {"X": np.ones((1, 1), np.float32)}
    for refused in (found.find("m"), model.infer(row), routed.infer(row)):
        with pytest.raises(Unavailable, match=r"^Triton is not ready$"):
            await refused
    assert await found.find("r") is routed  # health's own affair
    assert client.specs == []
    await found.refresh()
    assert found.refusal == ""
    assert await found.find("m") is model
    assert client.specs == ["m"]
    with pytest.raises(Unavailable, match=r"^Triton cannot be reached$"):  # it is called again
        await model.infer(row)


async def test_what_can_be_called_is_what_has_a_version() -> None:
    client = Asked(m=("1",), n=())
    found = catalogue(client)
    assert await found.ready_names() == {"m"}
    client.silent = True
    with pytest.raises(Unavailable):
        await found.ready_names()
