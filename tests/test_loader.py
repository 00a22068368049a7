"""From `module.path:Class` to a handler, and a sentence for everything that can be wrong on the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener import importing, loader, shapes
from listener.errors import ConfigError
from listener.handler import Handler
from listener.pool import Pool
from listener.service import Route, Service
from listener.triton.client import TritonClient
from listener.triton.model import Model


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
        importing.handler_class(*serving(folder, handler))
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
    found = importing.handler_class(*serving(tmp_path))
    assert issubclass(found, Handler)
    assert (found.__module__, found.__name__) == ("loaded.mine", "Mine")


def test_a_handler_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "NUMBER = 5\n", "other")
    write(
        tmp_path,
        "from loaded.other import NUMBER\nfrom listener import Handler\nclass Mine(Handler):\n    n = NUMBER\n",
    )
    assert vars(importing.handler_class(*serving(tmp_path)))["n"] == 5


def test_without_a_handler_it_is_the_generic_one(tmp_path: Path) -> None:
    assert importing.handler_class(*serving(tmp_path, None)) is Handler


def test_the_folder_comes_first_on_the_path(tmp_path: Path) -> None:
    service, elsewhere = tmp_path / "service", tmp_path / "elsewhere"
    for folder, model in ((service, "right"), (elsewhere, "wrong")):
        folder.mkdir()
        write(folder, GOOD.replace("of_the_handler", model))
    sys.path.insert(0, str(elsewhere))
    sys.path.append(str(service))  # as an editable install of the service, or PYTHONPATH, would put it
    assert importing.handler_class(*serving(service)).model == "right"


def test_the_folder_is_put_on_the_path_once(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    for _ in range(3):
        importing.handler_class(*serving(tmp_path))
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
    assert mistake(tmp_path, "loaded.mine:Yours") == f"{file} has no class 'Yours'; it has 'Mine'"


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
        await loader.load(service, route, importing.handler_class(service, route), {}, pool)
    (sentence,) = caught.value.mistakes
    assert sentence.startswith(f"{tmp_path}/listener.yaml:7: the handler of 'r' cannot be loaded: {reason}")
    assert sentence.endswith(f"({file}:{line})")


async def test_a_constructor_that_wants_arguments(tmp_path: Path, pool: Pool) -> None:
    class Mine(Handler):
        def __init__(self, size: int) -> None:
            self.size = size

    with pytest.raises(ConfigError, match=r":7: the handler of 'r' cannot be loaded: TypeError: .*'size'$"):
        await loader.load(*serving(tmp_path), Mine, {}, pool)


# Which models a handler has


def of(**attributes: object) -> type[Handler]:
    return type("Mine", (Handler,), attributes)


async def some(self: Handler, call: object) -> None: ...


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("uses = 'other'", ".uses is 'other'; it has to be a tuple of models' names, as ('other',)"),
        ("uses = 5", ".uses is 5; it has to be a tuple of models' names, as ('other',)"),
        ("uses = {'a': 1}", ".uses is {'a': 1}; it has to be a tuple of models' names, as ('other',)"),
        ("uses = None", ".uses is None; it has to be a tuple of models' names, as ('other',)"),
        ("uses = ('a', 5)", ".uses names 5, which is no model's name"),
        ("uses = ['']", ".uses names '', which is no model's name"),
        ("model = 5", ".model is 5; it has to be a model's name, or None for a handler that only calls others"),
        ("model = None", ".model is None, so it has to have a predict of its own"),
    ],
)
def test_what_is_wrong_with_the_names_of_models(tmp_path: Path, body: str, sentence: str) -> None:
    write(tmp_path, f"from listener import Handler\nclass Mine(Handler):\n    {body}\n")
    assert mistake(tmp_path) == f"Mine{sentence}"


@pytest.mark.parametrize(
    ("of_the_file", "attributes", "names"),
    [
        (None, {}, {"r"}),
        (None, {"model": "a", "uses": ("b", "c")}, {"a", "b", "c"}),
        ("z", {"model": "a", "uses": ["b"]}, {"z", "b"}),
        (None, {"model": None, "uses": {"b"}}, {"b"}),
        (None, {"model": None}, set()),
        ("z", {"model": None}, {"z"}),
    ],
)
def test_the_models_of_a_route(of_the_file: str | None, attributes: dict[str, object], names: set[str]) -> None:
    assert loader.model_names(Route("r", None, of_the_file), of(**attributes)) == names


async def test_a_model_cannot_be_called_while_handlers_are_loaded(tmp_path: Path, pool: Pool) -> None:
    write(
        tmp_path,
        "from listener import Handler\n"
        "class Mine(Handler):\n"
        "    async def load(self, artifacts):\n"
        "        await self.models['m'].infer({})\n",
    )
    service, route = serving(tmp_path, model="m")
    models = {"m": Model("m", TritonClient("http://127.0.0.1:1"))}
    with pytest.raises(ConfigError, match=r"model 'm' is not ready .*; models cannot be called yet when handlers are"):
        await loader.load(service, route, importing.handler_class(service, route), models, pool)


# Names that are nearly those of hooks


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("preproces", "preprocess"),
        ("preprosess", "preprocess"),
        ("pre_process", "preprocess"),
        ("PreProcess", "preprocess"),
        ("post_process", "postprocess"),
        ("postproces", "postprocess"),
        ("Predict", "predict"),
        ("perdict", "predict"),
        ("laod", "load"),
        ("Close", "close"),
    ],
)
def test_what_is_nearly_a_hook_is_told_of(tmp_path: Path, name: str, meant: str) -> None:
    write(tmp_path, f"from listener import Handler\nclass Mine(Handler):\n    def {name}(self, x): ...\n")
    service, route = serving(tmp_path)
    found = shapes.near_misses(service, importing.handler_class(service, route))
    assert found == [f"loaded/mine.py: Mine.{name} is no hook; did you mean {meant!r}?"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("exmaple", "example"),
        ("Model", "model"),
        ("modle", "model"),
        ("Uses", "uses"),
        ("instances_schema", "instance_schema"),
        ("predictionschema", "prediction_schema"),
        ("off_load", "offload"),
    ],
)
def test_what_is_nearly_an_attribute_is_told_of(tmp_path: Path, name: str, meant: str) -> None:
    (sentence,) = shapes.near_misses(serving(tmp_path)[0], of(**{name: "x"}))
    assert sentence.endswith(f"Mine.{name} is no attribute of handlers; did you mean {meant!r}?")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "process",
            "processed",
            "predict_one",
            "prediction",
            "predictions",
            "predicted",
            "examples",
            "models",
            "spec",
        ),
        *(
            "loads",
            "loader",
            "reload",
            "closed",
            "use",
            "user",
            "used",
            "mode",
            "schema",
            "words",
            "threshold",
            "sample",
        ),
        *("preprocess_image", "postprocess_all", "_preproces", "__preproces", "product", "offset", "input_schema"),
    ],
)
def test_ordinary_names_are_left_alone(tmp_path: Path, name: str) -> None:
    assert shapes.near_misses(serving(tmp_path)[0], of(**{name: "x"})) == []


def test_a_name_near_a_hook_that_is_there_is_left_alone(tmp_path: Path) -> None:
    service, _ = serving(tmp_path)
    assert shapes.near_misses(service, of(predict=some, perdict=some)) == []
    assert shapes.near_misses(service, Handler) == []


def test_names_of_a_base_class_of_ones_own_count_as_well(tmp_path: Path) -> None:
    class Base(Handler):
        def preproces(self) -> None: ...

    class Mixin:
        def post_process(self) -> None: ...

    (sentence,) = shapes.near_misses(serving(tmp_path)[0], type("Mine", (Mixin, Base), {}))
    assert sentence.endswith("test_loader.py: Base.preproces is no hook; did you mean 'preprocess'?")
