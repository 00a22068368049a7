"""The cookbook and its recipes say the same, are short, and have the models that the script makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from tests.markdown import blocks
from tools import example_models

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
RECIPES = sorted(path.parent for path in EXAMPLES.glob("*/listener.yaml"))
LINES = 40
BYTES = 5000


def sections() -> dict[str, str]:
    """The cookbook's sections by the folder that each is about."""
    texts = re.split(r"^## ", (ROOT / "docs/cookbook.md").read_text(), flags=re.M)[1:]
    found = [(re.search(r"^In \[examples/(\w+)\]\(\.\./examples/\1\)\.$", text, re.M), text) for text in texts]
    return {match[1]: text for match, text in found if match}


def shown(recipe: str, language: str) -> list[str]:
    """The blocks of a recipe's section in a language."""
    return [block.text for block in blocks(sections()[recipe]) if block.language == language]


def code(recipe: Path) -> list[Path]:
    """What a user writes."""
    return [recipe / "listener.yaml", *sorted(recipe.glob("**/*.py"))]


def test_every_recipe_has_its_section() -> None:
    assert sorted(sections()) == [recipe.name for recipe in RECIPES]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_cookbook_shows_the_files_as_they_are(recipe: Path) -> None:
    for language, pattern in (("yaml", "*.yaml"), ("python", "**/*.py"), ("csv", "*.csv")):
        assert shown(recipe.name, language) == [path.read_text() for path in sorted(recipe.glob(pattern))]
    assert [len(shown(recipe.name, language)) for language in ("sh", "json")] == [1, 1]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_is_short(recipe: Path) -> None:
    written = [line for path in code(recipe) for line in path.read_text().splitlines() if line.strip()]
    assert len(written) < LINES


def test_the_models_are_those_that_the_script_makes() -> None:
    made = example_models.files()
    committed = {path for path in EXAMPLES.glob("*/triton_repo/**/*") if path.is_file()}
    assert committed == {EXAMPLES / name for name in made if "/triton_repo/" in name}
    assert [name for name, content in made.items() if (EXAMPLES / name).read_bytes() != content] == []
    assert [name for name, content in made.items() if len(content) > BYTES] == []


@pytest.mark.parametrize("recipe", ["image_classifier", "detector_then_classifier"])
def test_a_handler_has_the_colours_of_the_model(recipe: str) -> None:
    (handler,) = (EXAMPLES / recipe / "handlers").glob("*.py")
    listed = ", ".join(f'"{colour}"' for colour in example_models.COLOURS)
    assert f"COLOURS = ({listed})\n" in handler.read_text()
