"""Tests of built images. `tools/image_test.sh` builds them and runs these; without `--images` there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.image.runtime import Image


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("image").addoption("--images", help="the folder of images that tools/image_test.sh has unpacked")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return True if config.getoption("images", None) is None else None


@pytest.fixture(scope="session")
def images(pytestconfig: pytest.Config) -> dict[str, Image]:
    """By name: `standin`, which is the one for NVIDIA's base, `torch`, which is that with torch, `cpu`, and `service`,
    which is no more than a service."""
    folder = Path(pytestconfig.getoption("images"))
    return {name: Image(name, folder / name) for name in ("standin", "torch", "cpu", "service")}


@pytest.fixture(scope="module", params=["standin", "cpu"])
def image(request: pytest.FixtureRequest, images: dict[str, Image]) -> Image:
    """Each image in turn."""
    return images[request.param]
