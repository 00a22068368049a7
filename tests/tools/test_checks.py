"""`listener check` on whole services: listener.yaml, routes, handlers, and the command itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from listener import importing, service
from listener.cli import cli
from listener.errors import ConfigError
from listener.tools import checks
from tests.tools.tiny_service import Tiny, onnx_file

pytestmark = pytest.mark.usefixtures("own_imports")

X = "{'X': np.zeros(2, np.float32)}"


def test_nothing_is_wrong_with_a_good_service(tiny: Tiny) -> None:
    assert checks.run(tiny.folder) == []


def test_nothing_is_wrong_with_a_good_handler(tiny: Tiny) -> None:
    tiny.handler(f"class H(Handler):\n model = 'tiny'\n example = 1\n def preprocess(self, i, context): return {X}")
    assert checks.run(tiny.folder) == []


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        ("routes:\n  a: {}\n  b: {}\n", ":1: 'default' is missing"),
        ("routes:\n  a: {handlr: x}\n", ":2: unknown key 'handlr' in routes.a; did you mean 'handler'?"),
        ("routes: [\n", ":2: not YAML"),
    ],
)
def test_mistakes_in_listener_yaml(tiny: Tiny, yaml: str, sentence: str) -> None:
    tiny.yaml.write_text(yaml)
    found = checks.run(tiny.folder)
    assert found[0].startswith(f"{tiny.yaml}{sentence}")


def test_no_service_at_all(tmp_path: Path) -> None:
    (mistake,) = checks.run(tmp_path)
    assert mistake.startswith(f"{tmp_path / 'listener.yaml'}: no such file")


def test_no_repository(tiny: Tiny) -> None:
    tiny.yaml.write_text("repository: nowhere\nroutes:\n  tiny: {}\n")
    place = f"{tiny.yaml}: repository: {tiny.folder / 'nowhere'}"
    assert checks.run(tiny.folder) == [f"{place} is not a folder that can be read"]


def test_a_route_without_model(tiny: Tiny) -> None:
    tiny.yaml.write_text("default: tiny\nroutes:\n  tiny: {}\n  other:\n    model: tinny\n")
    place = f"{tiny.yaml}:5: routes.other.model"
    hint = "did you mean 'tiny'? Found are tiny"
    assert checks.run(tiny.folder) == [f"{place}: no model 'tinny' in {tiny.repository}; {hint}"]


@pytest.mark.parametrize("yaml", ["default: tinny\nroutes:\n  tiny: {}\n", "default: tinny\n"], ids=["routes", "none"])
def test_a_default_that_is_neither_route_nor_model(tiny: Tiny, yaml: str) -> None:
    tiny.yaml.write_text(yaml)
    hint = "did you mean 'tiny'? Found are tiny"
    assert checks.run(tiny.folder) == [
        f"{tiny.yaml}:1: the default 'tinny' is neither a route nor a model in {tiny.repository}; {hint}"
    ]


@pytest.mark.parametrize("yaml", ["default: tiny\nroutes: {a: {model: tiny}}\n", "default: tiny\n", ""])
def test_a_default_that_is_a_model(tiny: Tiny, yaml: str) -> None:
    tiny.yaml.write_text(yaml)
    assert checks.run(tiny.folder) == []


def test_a_repository_alone(tiny: Tiny) -> None:
    tiny.yaml.unlink()
    assert checks.of(lambda: service.bare(tiny.repository, "tiny")) == []
    (mistake,) = checks.of(lambda: service.bare(tiny.repository, "huge"))
    assert mistake == f"the default 'huge' is neither a route nor a model in {tiny.repository}; found are tiny"


def test_the_command_checks_what_the_settings_name(tiny: Tiny, tmp_path: Path) -> None:
    def check(*arguments: str, **env: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["check", *arguments], env=env)
        return done.exit_code, done.output.partition("\n")[0]

    tiny.yaml.unlink()
    assert check("--repository", str(tiny.repository)) == (0, "everything is in order")
    assert check("--repository", str(tiny.repository), "--default-model", "huge")[0] == 1
    assert check(AIP_STORAGE_URI="gs://bucket/m") == (
        1,
        "gs://bucket/m: lies in Cloud Storage; name a folder on this machine with --repository",
    )


def test_a_route_in_an_empty_repository(tiny: Tiny) -> None:
    tiny.yaml.write_text("repository: empty\nroutes:\n  tiny: {}\n")
    (tiny.folder / "empty").mkdir()
    assert checks.run(tiny.folder)[0].endswith("; it is empty")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import nowhere", "'handlers.mine' cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("def f(:", "'handlers.mine' cannot be imported: SyntaxError"),
        ("class G(Handler): pass", "has no class 'H'; it has 'G'"),
        ("class H: pass", "'handlers.mine:H' is not a subclass of listener.Handler"),
        ("raise SystemExit(3)", "'handlers.mine:H' ends the process when it is imported (status 3)"),
        ("class H(Handler):\n def preprocess(self): pass", "H.preprocess: has to take (self, instance)"),
        ("class H(Handler):\n def preprocess(self, a, b, c): pass", "H.preprocess: has to take (self, instance)"),
        ("class H(Handler):\n def postprocess(self, *, a): pass", "H.postprocess: has to take (self, outputs)"),
        ("class H(Handler):\n preprocess = None", "H.preprocess: has to take (self, instance)"),
        ("class H(Handler):\n async def predict(self): pass", "H.predict: has to take (self, call)"),
        ("class H(Handler):\n def load(self): pass", "H.load: has to take (self, artifacts)"),
        ("class H(Handler):\n def __init__(self, size): pass", "H.__init__: may take no arguments"),
    ],
)
def test_mistakes_in_a_handler(tiny: Tiny, source: str, sentence: str) -> None:
    tiny.handler(source)
    (mistake,) = checks.run(tiny.folder)
    assert mistake.startswith(f"{tiny.yaml}:3: routes.tiny.handler: ")
    assert sentence in mistake


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ("instance_schema = ['string']", "TypeError: instance_schema is of type list; it has to be a dict, or None"),
        ("prediction_schema = 'x.yaml'", "TypeError: prediction_schema is of type str; it has to be a dict, or None"),
        ("instance_schema = {'enum': {1}}", "TypeError: instance_schema cannot be said in JSON: "),
        ("instance_schema = {1: 2}", "TypeError: instance_schema cannot be said in JSON: "),
    ],
)
def test_a_schema_that_is_none(tiny: Tiny, schema: str, sentence: str) -> None:
    tiny.handler(f"class H(Handler):\n model = 'tiny'\n {schema}")
    (mistake,) = checks.run(tiny.folder)
    assert mistake.startswith(f"{tiny.yaml}:3: the handler of 'tiny' cannot be loaded: {sentence}")


@pytest.mark.parametrize("body", ["def __init__(self): 1 / 0", "def load(self, artifacts): 1 / 0"])
def test_a_handler_that_cannot_be_loaded(tiny: Tiny, body: str) -> None:
    file = tiny.handler(f"class H(Handler):\n model = 'tiny'\n {body}")
    (mistake,) = checks.run(tiny.folder)
    assert mistake.startswith(f"{tiny.yaml}:3: ")
    assert "ZeroDivisionError" in mistake
    assert mistake.endswith(f"({file}:5)")


def test_a_handler_that_ends_the_process(tiny: Tiny) -> None:
    tiny.handler("class H(Handler):\n model = 'tiny'\n def load(self, artifacts): exit('bye')")
    (mistake,) = checks.run(tiny.folder)
    assert "the handler of 'tiny' cannot be loaded: SystemExit: bye (" in mistake


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("1 / 0", "H.example: preprocess refuses it: ZeroDivisionError: division by zero"),
        ("[1]", "H.preprocess: gives list for the example, not a mapping of names to arrays"),
        ("{'Z': np.zeros(2)}", "H.preprocess: gives 'Z' for the example; model 'tiny' takes 'X'"),
        ("{}", "H.preprocess: gives no 'X' for the example, which model 'tiny' needs"),
        (
            "{'X': np.zeros((2), np.complex64)}",
            "H.preprocess: gives 'X' as complex64 for the example; the model takes FP32",
        ),
        (
            "{'X': np.zeros((1, 2), np.float32)}",
            "H.preprocess: gives 'X' the shape [1, 2] for the example; the model takes [2], "
            "without the batch dimension",
        ),
    ],
)
@pytest.mark.parametrize("keyword", ["def", "async def"])
@pytest.mark.parametrize("with_config", [True, False])
def test_an_example_that_does_not_fit(
    tiny: Tiny, expression: str, sentence: str, keyword: str, with_config: bool
) -> None:
    if not with_config:
        tiny.config.unlink()
    source = (
        f"class H(Handler):\n model = 'tiny'\n example = b'png'\n {keyword} preprocess(self, i): return {expression}"
    )
    tiny.handler(source)
    assert f"{tiny.yaml}:3: routes.tiny.handler: {sentence}" in checks.run(tiny.folder)


@pytest.mark.parametrize(
    "body",
    [
        "def predict(self, call): pass",
        "async def load(self, artifacts): pass",
        "async def close(self): pass",
        "offload = 'process'",
    ],
)
def test_each_form_of_a_handler_is_accepted(tiny: Tiny, body: str) -> None:
    tiny.handler(f"class H(Handler):\n model = 'tiny'\n {body}")
    assert checks.run(tiny.folder) == []


def test_an_async_close_that_fails(tiny: Tiny) -> None:
    tiny.handler("class H(Handler):\n model = 'tiny'\n async def close(self): 1 / 0")
    (mistake,) = checks.run(tiny.folder)
    assert "fails with ZeroDivisionError" in mistake


def test_an_example_of_the_generic_preprocess(tiny: Tiny) -> None:
    tiny.handler("class H(Handler):\n model = 'tiny'\n example = [1, 2, 3]")
    (mistake,) = checks.run(tiny.folder)
    assert "preprocess refuses it: TensorError: input 'X' has shape [3]; the model takes [2]" in mistake


@pytest.mark.parametrize(
    "body",
    [
        "example = 1\n async def preprocess(self, i): return await self.models['tiny'].infer({})",
        "example = 1\n uses = ('other',)\n def preprocess(self, i): return self.models['other'].spec",
        "example = 1\n async def predict(self, call): pass\n def preprocess(self, i): 1 / 0",
        "def preprocess(self, i): 1 / 0",
    ],
)
def test_what_only_a_model_can_tell_is_no_mistake(tiny: Tiny, body: str) -> None:
    (tiny.repository / "other" / "1").mkdir(parents=True)
    (tiny.repository / "other" / "1" / "model.py").write_text("def auto_complete_config(): pass")
    tiny.handler(f"class H(Handler):\n model = 'tiny'\n {body}")
    assert checks.run(tiny.folder) == []


def test_one_mistake_does_not_hide_the_others(tiny: Tiny) -> None:
    tiny.handler("raise SystemExit")
    tiny.change('"X"', '"Z"')
    (tiny.repository / ".git").mkdir()
    places = [mistake.split(": ")[0] for mistake in checks.run(tiny.folder)]
    config = str(tiny.config)
    assert places == [f"{tiny.yaml}:3", str(tiny.repository / ".git"), f"{config}:8", f"{config}:6"]


def test_what_a_handler_prints_is_no_mistake(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.handler("print('hello')\nclass H(Handler):\n model = 'tiny'")
    assert checks.run(tiny.folder) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("module", ["onnx", "tritonclient.grpc.model_config_pb2"])
def test_without_the_extra(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    tiny.yaml.write_text("routes:\n  tinny: {}\n")
    route, extra = checks.run(tiny.folder)
    assert "no model 'tinny'" in route
    assert "pip install 'triton-listener[tools]'" in extra


def test_the_command_on_a_good_service(tiny: Tiny) -> None:
    result = CliRunner().invoke(cli, ["check", "--service", str(tiny.folder)])
    assert (result.exit_code, result.stdout) == (0, "everything is in order\n")


def test_the_command_on_a_bad_service(tiny: Tiny) -> None:
    tiny.change("dims: [ 2 ]", "dims: [ 3 ]")
    result = CliRunner().invoke(cli, ["check", "--service", str(tiny.folder)])
    assert result.exit_code == 1
    assert [line.split(": is ")[0] for line in result.stdout.splitlines()] == [
        f'{tiny.config}:10: input "X".dims',
        f'{tiny.config}:17: output "Y".dims',
    ]
    assert result.stderr == "2 mistakes\n"


MUTATIONS = st.lists(st.tuples(st.integers(0), st.sampled_from(list("{}[]<>:;,.\"'#-0aé\n\x00 "))), max_size=4)


def _mutated(text: str, cut: int, mutations: list[tuple[int, str]]) -> str:
    text = text[: cut % (len(text) + 1)]
    for at, put in mutations:
        at %= len(text) + 1
        text = text[:at] + put + text[at + 1 :]
    return text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0), mutations=MUTATIONS, which=st.sampled_from(["config", "yaml"]))
def test_whatever_is_broken_gives_sentences(tiny: Tiny, cut: int, mutations: list[tuple[int, str]], which: str) -> None:
    file: Path = getattr(tiny, which)
    good = file.read_text()
    try:
        file.write_text(_mutated(good, cut, mutations))
        found = checks.run(tiny.folder)
    finally:
        file.write_text(good)
    assert all(mistake and "\n" not in mistake and str(tiny.folder) in mistake for mistake in found)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0), changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4))
def test_whatever_is_broken_in_an_onnx_file_gives_sentences(
    tiny: Tiny, cut: int, changes: list[tuple[int, int]]
) -> None:
    onnx_file(tiny.onnx)
    data = bytearray(tiny.onnx.read_bytes())
    if changes == []:
        del data[cut % len(data) :]
    for at, byte in changes:
        data[at % len(data)] = byte
    tiny.onnx.write_bytes(data)
    assert all("\n" not in mistake and str(tiny.folder) in mistake for mistake in checks.run(tiny.folder))


# The models that a handler uses


def test_a_used_model_that_is_not_in_the_repository(tiny: Tiny) -> None:
    tiny.handler("class H(Handler):\n model = 'tiny'\n uses = ('tinny', 'tiny', 'zebra')")
    place = f"{tiny.yaml}:3: routes.tiny.handler: H.uses: no model"
    assert checks.run(tiny.folder) == [
        f"{place} 'tinny' in {tiny.repository}; did you mean 'tiny'?",
        f"{place} 'zebra' in {tiny.repository}",
    ]


def test_without_a_repository_nothing_is_said_of_used_models(tiny: Tiny) -> None:
    tiny.handler("class H(Handler):\n model = 'tiny'\n uses = ('zebra',)")
    tiny.yaml.write_text("repository: nowhere\n" + tiny.yaml.read_text())
    (mistake,) = checks.run(tiny.folder)
    assert mistake.endswith("is not a folder that can be read")


def test_uses_that_are_text(tiny: Tiny) -> None:
    tiny.handler("class H(Handler):\n model = 'tiny'\n uses = 'tiny'")
    (mistake,) = checks.run(tiny.folder)
    assert mistake.endswith("H.uses is 'tiny'; it has to be a tuple of models' names, as ('tiny',)")


def test_a_handler_without_a_model_of_its_own(tiny: Tiny) -> None:
    tiny.handler("class H(Handler):\n model = None\n uses = ('tiny',)\n async def predict(self, call): pass")
    tiny.yaml.write_text("routes:\n  all:\n    handler: handlers.mine:H\n")
    assert checks.run(tiny.folder) == []


def test_a_model_that_the_handler_does_not_name(tiny: Tiny) -> None:
    source = "class H(Handler):\n model = 'tiny'\n def load(self, artifacts): self.models['other']"
    tiny.handler(source)
    (tiny.repository / "other" / "1").mkdir(parents=True)
    (tiny.repository / "other" / "1" / "model.py").write_text("def auto_complete_config(): pass")
    (mistake,) = checks.run(tiny.folder)
    assert "NoSuchModel: no model 'other' for this handler; it has 'tiny'; name further ones in uses" in mistake


@pytest.mark.parametrize(
    ("given", "told"), [("version='latest'", "version is 'latest'"), ("timeout=0", "timeout is 0")]
)
def test_a_call_that_no_model_can_take(tiny: Tiny, given: str, told: str) -> None:
    body = f"async def preprocess(self, i): return await self.models['tiny'].infer({{}}, {given})"
    tiny.handler(f"class H(Handler):\n model = 'tiny'\n example = 1\n {body}")
    (mistake,) = checks.run(tiny.folder)
    assert told in mistake


def test_what_is_nearly_a_hook(tiny: Tiny) -> None:
    tiny.handler("class H(Handler):\n model = 'tiny'\n def preproces(self, i): pass\n exmaple = 1")
    assert checks.run(tiny.folder) == [
        "handlers/mine.py: H.preproces is no hook; did you mean 'preprocess'?",
        "handlers/mine.py: H.exmaple is no attribute of handlers; did you mean 'example'?",
    ]


# Lines and guesses

PRICE = "from listener import Handler\nclass Price(Handler):\n model = 'tiny'\ndef total(given): return given\n"


def said(tiny: Tiny, text: str) -> list[str]:
    """What the check says of a listener.yaml, beside a handlers/price.py with the class Price."""
    (tiny.folder / "handlers").mkdir(exist_ok=True)
    (tiny.folder / "handlers" / "price.py").write_text(PRICE)
    tiny.yaml.write_text(text)
    return [mistake.removeprefix(f"{tiny.yaml}:") for mistake in checks.run(tiny.folder)]


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ("handler: handlers.price:Prize\n    model: tiny", "4: routes.a.handler: "),
        ("model: tiny\n    handler: handlers.price:Prize", "5: routes.a.handler: "),
        ("handler: handlers.price:Price\n    model: vine", "5: routes.a.model: no model 'vine' in "),
        ("model: tiny\n    timeout: 1\n    version: 9", "6: routes.a.version: model 'tiny' has no version 9"),
        ("fallback:\n      - tiny\n      - timeout: 1\n        model: vine", "7: routes.a.fallback[1].model: no model"),
    ],
)
def test_a_mistake_has_the_line_of_its_key(tiny: Tiny, keys: str, place: str) -> None:
    (mistake,) = said(tiny, f"default: a\nroutes:\n  a:\n    {keys}\n")
    assert mistake.startswith(place)


def test_the_start_names_the_line_of_the_key_as_well(tiny: Tiny) -> None:
    text = "routes:\n  a:\n    model: tiny\n    handler: handlers.price:Prize\n"
    mistakes = said(tiny, text)
    with pytest.raises(ConfigError) as caught:
        importing.imported(service.read(tiny.folder))
    assert caught.value.mistakes == (f"{tiny.yaml}:{mistakes[0]}",)
    assert mistakes[0].startswith("4: routes.a.handler: ")


@pytest.mark.parametrize("body", ["def postprocess(self): pass", "def load(self, artifacts): 1 / 0", "example = 1"])
def test_a_mistake_of_a_class_is_told_once_for_all_its_routes(tiny: Tiny, body: str) -> None:
    tiny.handler(f"class H(Handler):\n model = 'tiny'\n {body}\n def preprocess(self, i): return {{}}")
    routes = "".join(f"  {name}: {{handler: 'handlers.mine:H'}}\n" for name in "abc")
    tiny.yaml.write_text(f"default: a\nroutes:\n{routes}")
    (mistake,) = checks.run(tiny.folder)
    assert mistake.startswith(f"{tiny.yaml}:3: ")


def test_what_is_wrong_with_one_route_of_a_class_alone_is_told_too(tiny: Tiny) -> None:
    routes = "  a: {handler: 'handlers.price:Price', model: x}\n  b: {handler: 'handlers.price:Price', model: x}\n"
    mistakes = said(tiny, f"default: a\nroutes:\n{routes}")
    assert [mistake.partition(": no ")[0] for mistake in mistakes] == ["3: routes.a.model", "4: routes.b.model"]


@pytest.mark.parametrize(
    ("handler", "hint"),
    [
        ("handlers.price:Prize", "price.py has no class 'Prize'; did you mean 'Price'?"),
        ("handlers.price:Whatever", "price.py has no class 'Whatever'; it has 'Price'"),
        ("handlers.pric:Price", "No module named 'handlers.pric'; did you mean 'handlers.price'?"),
        ("handler.price:Price", "No module named 'handler'; did you mean 'handlers.price'?"),
        ("handlers/price.py:Price", "'module.path:Class'; did you mean 'handlers.price:Price'?"),
        ("./handlers/price.py:Price", "'module.path:Class'; did you mean 'handlers.price:Price'?"),
        ("handlers.price.Price", "'module.path:Class'; did you mean 'handlers.price:Price'?"),
        ("handlers.price", "'handlers.price' is not of the form 'module.path:Class'"),
        ("handlers/price.py", "'handlers/price.py' is not of the form 'module.path:Class'"),
    ],
)
def test_what_a_handler_may_mean(tiny: Tiny, handler: str, hint: str) -> None:
    (mistake,) = said(tiny, f"routes:\n  a: {{handler: '{handler}', model: tiny}}\n")
    assert mistake.endswith(hint)


def test_what_a_function_may_mean(tiny: Tiny) -> None:
    (mistake,) = said(tiny, "routes:\n  a: {ensemble: {members: [tiny], merge: 'handlers.price:totl'}}\n")
    assert mistake.endswith("price.py has no function 'totl'; did you mean 'total'?")


def test_a_default_may_mean_a_route(tiny: Tiny) -> None:
    (mistake,) = said(tiny, "routes:\n  prices: {model: tiny}\ndefault: price\n")
    assert mistake.startswith("3: the default 'price' is neither a route nor a model in ")
    assert mistake.endswith("; did you mean 'prices'? Found are prices, tiny")


def test_a_model_is_listed_once(tiny: Tiny) -> None:
    (mistake,) = said(tiny, "default: tiny\nroutes:\n  tiny: {}\n  a: {node: zebra}\n")
    assert mistake.endswith("; found are tiny, a")
