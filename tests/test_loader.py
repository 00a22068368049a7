"""From `module.path:Class` to a handler, and a sentence for everything that can be wrong on the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener import loader
from listener.errors import ConfigError
from listener.handler import Handler
from listener.pool import Pool
from listener.service import Route, Service


@pytest.fixture(autouse=True)
def imports_as_before() -> Iterator[None]:
    """Each test has a folder of its own, with modules of the same names."""
    path, modules = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(1)
    yield made
    made.close()


def write(folder: Path, source: str, name: str = "mine") -> Path:
    (folder / "loaded").mkdir(exist_ok=True)
    (folder / "loaded" / f"{name}.py").write_text(source)
    return folder / "loaded" / f"{name}.py"


def serving(folder: Path, handler: str | None = "loaded.mine:Mine", model: str | None = None) -> tuple[Service, Route]:
    route = Route("r", handler, model, 7)
    return Service(folder, folder / "triton_repo", "r", {"r": route}), route


def mistake(folder: Path, handler: str = "loaded.mine:Mine") -> str:
    with pytest.raises(ConfigError) as caught:
        loader.handler_class(*serving(folder, handler))
    (sentence,) = caught.value.mistakes
    start = f"{folder}/listener.yaml:7: routes.r.handler: "
    assert sentence.startswith(start)
    return sentence.removeprefix(start)


GOOD = """
from listener import Handler

class Mine(Handler):
    model = "of_the_handler"
"""


def test_a_handler_class_is_imported_from_the_folder(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    found = loader.handler_class(*serving(tmp_path))
    assert issubclass(found, Handler)
    assert (found.__module__, found.__name__) == ("loaded.mine", "Mine")


def test_a_handler_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "NUMBER = 5\n", "other")
    write(
        tmp_path,
        "from loaded.other import NUMBER\nfrom listener import Handler\nclass Mine(Handler):\n    n = NUMBER\n",
    )
    assert vars(loader.handler_class(*serving(tmp_path)))["n"] == 5


def test_without_a_handler_it_is_the_generic_one(tmp_path: Path) -> None:
    assert loader.handler_class(*serving(tmp_path, None)) is Handler


def test_the_folder_comes_first_on_the_path(tmp_path: Path) -> None:
    service, elsewhere = tmp_path / "service", tmp_path / "elsewhere"
    for folder, model in ((service, "right"), (elsewhere, "wrong")):
        folder.mkdir()
        write(folder, GOOD.replace("of_the_handler", model))
    sys.path.insert(0, str(elsewhere))
    sys.path.append(str(service))  # as an editable install of the service, or PYTHONPATH, would put it
    assert loader.handler_class(*serving(service)).model == "right"


def test_the_folder_is_put_on_the_path_once(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    for _ in range(3):
        loader.handler_class(*serving(tmp_path))
    assert sys.path.count(str(tmp_path)) == 1


# What can be wrong with the class


def test_no_such_module(tmp_path: Path) -> None:
    assert mistake(tmp_path, "nowhere.mine:Mine") == (
        "'nowhere.mine' cannot be imported: ModuleNotFoundError: No module named 'nowhere'"
    )


def test_a_module_that_lacks_a_dependency(tmp_path: Path) -> None:
    file = write(tmp_path, "\nimport no_such_thing\n")
    assert mistake(tmp_path) == (
        f"'loaded.mine' cannot be imported: ModuleNotFoundError: No module named 'no_such_thing' ({file}:2)"
    )


def test_a_module_that_fails(tmp_path: Path) -> None:
    file = write(tmp_path, "def fail():\n    raise ValueError('two\\nlines')\n\nfail()\n")
    assert mistake(tmp_path) == f"'loaded.mine' cannot be imported: ValueError: two lines ({file}:2)"


def test_the_line_is_one_of_the_folder_even_if_a_library_failed(tmp_path: Path) -> None:
    file = write(tmp_path, "import json\n\njson.loads('nope')\n")
    assert mistake(tmp_path).endswith(f"({file}:3)")


def test_a_module_that_is_no_python(tmp_path: Path) -> None:
    file = write(tmp_path, "class Mine\n    pass\n")
    assert mistake(tmp_path) == f"'loaded.mine' cannot be imported: SyntaxError: expected ':' ({file}:1)"


@pytest.mark.parametrize("status", ["3", "'no licence'"])
def test_a_module_that_ends_the_process(tmp_path: Path, status: str) -> None:
    write(tmp_path, f"import sys\nsys.exit({status})\n")
    assert mistake(tmp_path) == (
        f"'loaded.mine:Mine' ends the process when it is imported (status {status.strip(chr(39))})"
    )


def test_no_such_class(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    assert mistake(tmp_path, "loaded.mine:Yours") == f"{file} has no class 'Yours'"


@pytest.mark.parametrize(
    "source", ["Mine = 5\n", "class Mine: ...\n", "def Mine(): ...\n"], ids=["int", "class", "def"]
)
def test_what_is_no_handler(tmp_path: Path, source: str) -> None:
    write(tmp_path, source)
    assert mistake(tmp_path) == "'loaded.mine:Mine' is not a subclass of listener.Handler"


# The model behind a route


@pytest.mark.parametrize(
    ("of_the_file", "of_the_handler", "expected"),
    [("file", "handler", "file"), (None, "handler", "handler"), ("file", "", "file"), (None, "", "r")],
    ids=["the file wins", "the handler's", "only the file's", "the route's name"],
)
def test_model_name(of_the_file: str | None, of_the_handler: str, expected: str) -> None:
    class Mine(Handler):
        model = of_the_handler

    assert loader.model_name(Route("r", None, of_the_file), Mine) == expected


# Making one


async def test_a_made_handler_is_bound_and_loaded(tmp_path: Path, pool: Pool) -> None:
    events: list[object] = []

    class Mine(Handler):
        def load(self, artifacts: Path) -> None:
            events.append((artifacts, self.model, dict(self.models)))

    service, route = serving(tmp_path, model="m")
    made = await loader.load(service, route, Mine, {}, pool)
    assert isinstance(made, Mine)
    assert events == [(tmp_path, "m", {})]


@pytest.mark.parametrize(
    ("source", "reason", "line"),
    [
        ("    def __init__(self):\n        raise KeyError('x')\n", "KeyError: 'x'", 4),
        ("    def load(self, artifacts):\n        raise OSError('gone')\n", "OSError: gone", 4),
        ("    def load(self, artifacts):\n        open(artifacts / 'n')\n", "FileNotFoundError: [Errno 2] No such", 4),
        ("    def load(self, artifacts):\n        raise SystemExit(3)\n", "SystemExit: 3", 4),
    ],
    ids=["the constructor", "load", "a missing file", "the end of the process"],
)
async def test_a_handler_that_cannot_be_made(tmp_path: Path, pool: Pool, source: str, reason: str, line: int) -> None:
    file = write(tmp_path, f"from listener import Handler\nclass Mine(Handler):\n{source}")
    service, route = serving(tmp_path)
    with pytest.raises(ConfigError) as caught:
        await loader.load(service, route, loader.handler_class(service, route), {}, pool)
    (sentence,) = caught.value.mistakes
    assert sentence.startswith(f"{tmp_path}/listener.yaml:7: the handler of 'r' cannot be loaded: {reason}")
    assert sentence.endswith(f"({file}:{line})")


async def test_a_constructor_that_wants_arguments(tmp_path: Path, pool: Pool) -> None:
    class Mine(Handler):
        def __init__(self, size: int) -> None:
            self.size = size

    with pytest.raises(ConfigError, match=r":7: the handler of 'r' cannot be loaded: TypeError: .*'size'$"):
        await loader.load(*serving(tmp_path), Mine, {}, pool)
