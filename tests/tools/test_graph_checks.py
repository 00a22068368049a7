"""`listener check` on graphs: references, versions and functions, each with line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from listener import importing, service
from listener.errors import ConfigError
from listener.tools import checks
from tests.tools.tiny_service import Tiny, onnx_file

pytestmark = pytest.mark.usefixtures("own_imports")


def found(tiny: Tiny, text: str) -> list[str]:
    """What the check says, without the file's path."""
    tiny.yaml.write_text(text)
    return [mistake.removeprefix(f"{tiny.yaml}:") for mistake in checks.run(tiny.folder)]


GRAPHS = [
    ("split: {arms: {tiny: 9, new: {weight: 1, node: tinny}}}", "split.arms.new"),
    ("switch: {field: k, cases: {x: tinny}}", "switch.cases.x"),
    ("switch: {field: k, cases: {x: tiny}, otherwise: tinny}", "switch.otherwise"),
    ("ensemble: {members: [tiny, tinny]}", "ensemble.members.tinny"),
    ("fallback: [tiny, tinny]", "fallback[1]"),
    ("cascade: {nodes: [tiny, tinny], below: 1}", "cascade.nodes[1]"),
    ("sequence: [tiny, {node: tinny, input: both}]", "sequence[1]"),
    ("shadow: {node: tiny, mirror: tinny}", "shadow.mirror"),
    ("node: tinny", "node"),
    ("timeout: 1\n    node: tinny", "node"),
    ("timeout: 1\n    fallback: [tiny, {fallback: [tiny, tinny]}]", "fallback[1].fallback[1]"),
]


@pytest.mark.parametrize(("node", "field"), GRAPHS, ids=[field for _, field in GRAPHS])
@pytest.mark.parametrize("key", ["routes", "nodes"])
def test_a_reference_to_nothing_has_its_line_and_field(tiny: Tiny, node: str, field: str, key: str) -> None:
    line = 3 + node.count("\n")
    (mistake,) = found(tiny, f"{key}:\n  a:\n    {node}\n")
    start = f"{line}: {key}.a.{field}: no route, node or model 'tinny' in listener.yaml and {tiny.repository}; "
    assert mistake == f"{start}did you mean 'tiny'? Found are a, tiny"


def test_each_reference_to_one_name_is_told(tiny: Tiny) -> None:
    mistakes = found(tiny, "routes:\n  a:\n    fallback:\n      - x\n      - tiny\n      - x\n")
    assert [mistake.partition(": no ")[0] for mistake in mistakes] == [
        "4: routes.a.fallback[0]",
        "6: routes.a.fallback[2]",
    ]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("nodes:\n  a: {model: tinny}\n", "2: nodes.a.model"),
        ("routes:\n  a:\n    fallback:\n      - tiny\n      - model: tinny\n", "5: routes.a.fallback[1].model"),
        ("nodes:\n  a:\n    timeout: 1\n    model: tinny\n", "4: nodes.a.model"),
    ],
)
def test_a_step_says_where_it_stands(tiny: Tiny, text: str, field: str) -> None:
    (mistake,) = found(tiny, text)
    assert mistake.startswith(f"{field}: no model 'tinny' in {tiny.repository}; did you mean 'tiny'?")


def test_a_handler_of_a_part_says_where_it_stands(tiny: Tiny) -> None:
    part = "{weight: 1, handler: 'no.such:H', model: tiny}"
    (mistake,) = found(tiny, f"routes:\n  a:\n    split:\n      arms:\n        new: {part}\n")
    assert mistake.startswith("5: routes.a.split.arms.new.handler: 'no.such' cannot be imported")


# Versions


def versions(tiny: Tiny, policy: str = "") -> None:
    """The model in the versions 1, 2 and 4."""
    for version in ("2", "4"):
        onnx_file(tiny.model / version / "model.onnx")
    if policy:
        tiny.config.write_text(f"{tiny.config.read_text()}version_policy: {policy}\n")


ALL = "{ all { } }"
NO_9 = "model 'tiny' has no version 9; it has 1, 2, 4"
NOT_LOADED = "Triton does not load version 1 of model 'tiny', because of its version_policy; it loads "
ALL_OF_THEM = "; with version_policy { all { } } it loads all"


@pytest.mark.parametrize(
    ("node", "policy", "expected"),
    [
        ("version: 9\n    model: tiny", ALL, [f"3: routes.a.version: {NO_9}"]),
        ("node: tiny@9", ALL, [f"3: routes.a.node: {NO_9}"]),
        ("fallback: [tiny, part@9]", ALL, [f"3: routes.a.fallback[1]: {NO_9}"]),
        ("fallback: [tiny, {model: tiny, version: 9}]", ALL, [f"3: routes.a.fallback[1].version: {NO_9}"]),
        ("fallback: [tiny, limited@9]", ALL, [f"3: routes.a.fallback[1]: {NO_9}"]),
        ("split: {arms: {tiny@9: 1}}", ALL, [f"3: routes.a.split.arms.tiny@9: {NO_9}"]),
        ("node: tiny@2", ALL, []),
        ("node: tiny@1", "", [f"3: routes.a.node: {NOT_LOADED}4{ALL_OF_THEM}"]),
        ("node: tiny@4", "", []),
        ("node: tiny@1", "{ latest { num_versions: 2 } }", [f"3: routes.a.node: {NOT_LOADED}2, 4{ALL_OF_THEM}"]),
        ("node: tiny@1", "{ specific { versions: [ 2, 4 ] } }", [f"3: routes.a.node: {NOT_LOADED}2, 4{ALL_OF_THEM}"]),
        ("node: tiny@2", "{ specific { versions: [ 2 ] } }", []),
    ],
)
def test_a_version_that_is_not_there(tiny: Tiny, node: str, policy: str, expected: list[str]) -> None:
    versions(tiny, policy)
    text = f"routes:\n  a:\n    {node}\nnodes:\n  part: {{model: tiny}}\n  limited: {{model: tiny, timeout: 1}}\n"
    assert found(tiny, text) == expected


# Functions

SOURCE = """
NUMBER = 5
def none(): pass
def one(a): pass
def two(a, b): pass
def three(a, b, c): pass
async def waits_one(a): pass
async def waits_two(a, b): pass
async def yields(a, b): yield a
class Handy:
    def __call__(self, a): pass
handy = Handy()
"""

NODES = {
    "ensemble.merge": "ensemble: {{members: [tiny], merge: '{}'}}",
    "cascade.score": "cascade: {{nodes: [tiny, tiny], below: 1, score: '{}'}}",
    "switch.function": "switch: {{function: '{}', cases: {{x: tiny}}}}",
}
ARGUMENT = {"ensemble.merge": "predictions", "cascade.score": "prediction", "switch.function": "instance"}


def write(tiny: Tiny, field: str, name: str) -> str:
    (tiny.folder / "handlers").mkdir(exist_ok=True)
    (tiny.folder / "handlers" / "given.py").write_text(SOURCE)
    return f"nodes:\n  a:\n    timeout: 1\n    {NODES[field].format(name)}\n"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no.such:f", "'no.such' cannot be imported: ModuleNotFoundError: No module named 'no'"),
        ("handlers.given:gone", "{file} has no function 'gone'"),
        ("handlers.given:NUMBER", "'handlers.given:NUMBER' is nothing to call"),
        ("handlers.given:none", "'handlers.given:none' has to take ({argument}) or ({argument}, context)"),
        ("handlers.given:yields", "'handlers.given:yields' cannot be a generator"),
    ],
)
@pytest.mark.parametrize("field", NODES)
def test_a_function_that_is_none_has_one_sentence_at_the_check_and_at_the_start(
    tiny: Tiny, field: str, name: str, sentence: str
) -> None:
    mistakes = found(tiny, write(tiny, field, name))
    said = sentence.format(file=tiny.folder / "handlers" / "given.py", argument=ARGUMENT[field])
    known = "; did you mean 'one'?" if "gone" in name else ""
    assert mistakes == [f"4: nodes.a.{field}: {said}{known}"]
    with pytest.raises(ConfigError) as caught:
        importing.imported(service.read(tiny.folder))
    assert caught.value.mistakes == (f"{tiny.yaml}:{mistakes[0]}",)


@pytest.mark.parametrize(
    ("field", "name", "expected"),
    [
        ("ensemble.merge", "one", ""),
        ("ensemble.merge", "handy", ""),
        ("ensemble.merge", "two", ""),
        ("ensemble.merge", "three", "has to take (predictions) or (predictions, context)"),
        ("ensemble.merge", "waits_one", ""),
        ("cascade.score", "one", ""),
        ("cascade.score", "waits_two", ""),
        ("switch.function", "two", ""),
        ("switch.function", "waits_two", ""),
        ("switch.function", "one", ""),
    ],
)
def test_the_arguments_of_each_function(tiny: Tiny, field: str, name: str, expected: str) -> None:
    mistakes = found(tiny, write(tiny, field, f"handlers.given:{name}"))
    assert mistakes == ([f"4: nodes.a.{field}: 'handlers.given:{name}' {expected}"] if expected else [])


def test_a_function_in_c_is_accepted(tiny: Tiny) -> None:
    assert found(tiny, write(tiny, "cascade.score", "builtins:max")) == []


# One mistake does not hide the others


def test_a_cycle_does_not_hide_an_unknown_model_nor_a_bad_handler(tiny: Tiny) -> None:
    text = (
        "default: tiny\nroutes:\n  a: {node: b}\n  b: {node: a}\n  c: {node: huge}\n  tiny: {}\n"
        "  d: {handler: 'no.such:H', model: tiny}\n  e: {retry: x}\n  f: {node: tiny@7}\n  g: {node: e}\n"
    )
    mistakes = found(tiny, text)
    assert [mistake[:40].partition(": ")[2][:28] for mistake in mistakes] == [
        "'retry' of routes.e is not a",
        "the graph has a cycle: a -> ",
        "routes.d.handler: 'no.such' ",
        "routes.c.node: no route, nod",
        "routes.f.node: model 'tiny' ",
    ]


def test_nothing_is_said_of_a_repository_that_may_not_be_the_one(tiny: Tiny) -> None:
    (mistake,) = found(tiny, "repository: [x]\nroutes:\n  a: {node: huge}\n")
    assert "'repository' is not a piece of text" in mistake


@pytest.mark.parametrize("text", ["nodes: {spare: {model: tiny}}\nroutes: {tiny: {}}\n", "nodes: {tiny: {}}\n"])
def test_a_node_that_nobody_uses_is_no_mistake(tiny: Tiny, text: str) -> None:
    assert found(tiny, text) == []


def test_all_handlers_are_told_at_the_start(tiny: Tiny, tmp_path: Path) -> None:
    tiny.yaml.write_text("default: a\nroutes:\n  a: {handler: 'no.a:A'}\n  b: {handler: 'no.b:B'}\n")
    with pytest.raises(ConfigError) as caught:
        importing.imported(service.read(tiny.folder))
    assert [mistake.split(": ")[1] for mistake in caught.value.mistakes] == ["routes.a.handler", "routes.b.handler"]
