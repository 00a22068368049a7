"""Nodes made in Python: the same ones as listener.yaml's, and a sentence for each wrong argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from listener import compose, importing, service
from listener.errors import ConfigError
from listener.handler import Handler
from listener.nodes import Named, Node, Step, rebuilt
from listener.service import Service
from listener.testing import FakeModel, FakeTriton
from listener.testing.client import Client
from listener.testing.modules import Modules
from tests.markdown import blocks

ROOT = Path(__file__).parents[1]


class Mine(Handler):
    """A handler."""


SAME: dict[str, tuple[str, Callable[[], Node]]] = {
    "step": ("{handler: 'a.b:C', model: m, version: 2, offload: thread}",
             lambda: compose.step("a.b:C", model="m", version=2, offload="thread")),
    "sequence": ("{sequence: [a, {node: b, input: both}]}",
                 lambda: compose.sequence("a", compose.then(compose.node("b"), "both"))),
    "switch": ("{switch: {header: X-Tier, cases: {gold: a, free: 'b@3'}, otherwise: pass}}",
               lambda: compose.switch({"gold": "a", "free": "b@3"}, header="X-Tier", otherwise="pass")),
    "split": ("{split: {arms: {a: 90, new: {weight: 10, node: 'a@2', timeout: 0.2}}, sticky: {field: user}}}",
              lambda: compose.split({"a": 90, "new": compose.arm(10, compose.limited("a@2", timeout=0.2))},
                                    field="user")),
    "ensemble": ("{ensemble: {members: [a, b], merge: mean, optional: [b]}}",
                 lambda: compose.ensemble(["a", "b"], merge="mean", optional=["b"])),
    "fallback": ("{fallback: [{node: a, timeout: 0.5, retry: 1}, b]}",
                 lambda: compose.fallback(compose.limited("a", timeout=0.5, retry=1), "b")),
    "shadow": ("{shadow: {node: a, mirror: 'a@2', share: 0.1, limit: 3, compare: true}}",
               lambda: compose.shadow("a", "a@2", share=0.1, limit=3, compare=True)),
    "cascade": ("{cascade: {nodes: [a, b], below: 0.8, score: confidence}}",
                lambda: compose.cascade("a", "b", below=0.8, score="confidence")),
}  # fmt: skip


def written(folder: Path, yaml: str, python: str = "") -> Service:
    (folder / "listener.yaml").write_text(dedent(yaml))
    (folder / "handlers").mkdir(exist_ok=True)
    (folder / "handlers" / "graphs.py").write_text(dedent(python))
    return service.read(folder)


def without_lines(node: Node) -> Node:
    made = node if not hasattr(node, "line") else node.__class__(**{**_fields(node), "line": 0})
    return rebuilt(made, lambda _, child: without_lines(child))


def _fields(node: Any) -> dict[str, Any]:
    return {name: getattr(node, name) for name in node.__slots__}


@pytest.mark.parametrize("kind", SAME)
def test_python_makes_the_node_that_listener_yaml_describes(kind: str, tmp_path: Path) -> None:
    described, make = SAME[kind]
    # a node on top would be a route of its own, with the steps within it as parts
    read = written(tmp_path, f"routes:\n  r: {{fallback: [{described}, x]}}\n")
    by_hand = service.with_graphs(replace(read, parts={}), {"r": Named("r", compose.fallback(make(), "x"))})
    assert without_lines(by_hand.graphs["r"].node) == without_lines(read.graphs["r"].node)
    assert by_hand.parts.keys() == read.parts.keys()


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: compose.step(), "a step needs a handler or a model"),
    (lambda: compose.step("digits"), "'digits' is not of the form 'module.path:Class'"),
    (lambda: compose.step(model="m", version=0), "version is 0; it has to be a number from 1"),
    (lambda: compose.step(model="m", offload="gpu"), "offload is 'gpu'; it can be thread, process, inline"),
    (lambda: compose.sequence(), "sequence needs at least one, and has none"),
    (lambda: compose.then("a", "all"), "input is 'all'; it can be prediction, instance, both"),
    (lambda: compose.switch({"a": "b"}), "a switch needs one of parameter, header, field, function"),
    (lambda: compose.switch({}, field="k"), "cases needs at least one, and has none"),
    (
        lambda: compose.switch({"a": "b"}, field="k", header="h"),
        "a switch takes one of parameter, header, field, function, not header and field",
    ),
    (lambda: compose.split({"a": 0}), "the weight 0 is not a number above 0"),
    (lambda: compose.split({"a": float("nan")}), "the weight nan is not a number above 0"),
    (lambda: compose.split({"a": True}), "the weight True is not a number above 0"),
    (lambda: compose.ensemble(["a"], merge="sum"), "merge is 'sum'; it can be object, mean, vote"),
    (lambda: compose.ensemble(["a"], optional=["b"]), "optional names 'b', which is no member"),
    (lambda: compose.fallback("a"), "fallback needs two or more, and has 1"),
    (lambda: compose.shadow("a", "b", share=0), "share is 0; it has to be above 0 and up to 1"),
    (lambda: compose.shadow("a", "b", limit=0), "limit is 0; it has to be above 0"),
    (lambda: compose.cascade("a", "b", below=float("inf")), "below is inf, which is no number"),
    (lambda: compose.limited("a", timeout=0), "timeout is 0; it has to be a number of seconds above 0"),
    (lambda: compose.limited("a", retry=-1), "retry is -1; it cannot be below 0"),
    (lambda: compose.node("a@b"), "'a@b' is not NAME or NAME@VERSION"),
    (lambda: compose.node(""), "'' is not NAME or NAME@VERSION"),
    (lambda: compose.node(7), "7 is no node: it has to be one of listener.compose, a name, or a handler's class"),
]


@pytest.mark.parametrize(("make", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_a_wrong_argument_is_told_in_one_sentence(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        make()
    assert str(caught.value) == sentence


def test_a_class_is_named_by_its_module_so_that_other_processes_find_it() -> None:
    assert compose.node(Mine) == Step("tests.test_compose:Mine")

    class Inner(Handler):
        pass

    with pytest.raises(ValueError, match="does not stand at the top of its module"):
        compose.node(Inner)


@pytest.mark.parametrize(
    ("python", "reason"),
    [
        ("", "handlers/graphs.py has no node 'made'"),
        ("def made():\n    return 1 / 0", "ZeroDivisionError: division by zero"),
        ("def made(x):\n    return x", "TypeError: made() missing 1 required positional argument: 'x'"),
        ("made = 5", "TypeError: 5 is no node"),
        ("from listener import compose\nmade = lambda: compose.split({'a': -1})", "ValueError: the weight -1 is not"),
        ("import sys\ndef made():\n    sys.exit(3)", "SystemExit: 3"),
        ("def made(:", "SyntaxError: invalid syntax"),
    ],
)
def test_a_node_that_cannot_be_had_is_told_with_its_place(python: str, reason: str, tmp_path: Path) -> None:
    read = written(tmp_path, "routes:\n  r:\n    fallback: [{graph: 'handlers.graphs:made'}, x]\n", python)
    modules = Modules(tmp_path)
    try:
        with pytest.raises(ConfigError) as caught:
            importing.expanded(read)
    finally:
        modules.close()
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(f"{tmp_path}/listener.yaml:3: routes.r.fallback[0].graph: ")
    assert reason in mistake


def test_a_circle_through_python_is_seen(tmp_path: Path) -> None:
    yaml = "routes:\n  a: {graph: 'handlers.graphs:made'}\n  b: {fallback: [a, x]}\ndefault: a\n"
    python = "from listener import compose\nmade = compose.fallback('b', 'y')\n"
    read = written(tmp_path, yaml, python)
    modules = Modules(tmp_path)
    try:
        with pytest.raises(ConfigError, match=r"listener\.yaml:2: the graph has a cycle: a -> b -> a$"):
            importing.expanded(read)
    finally:
        modules.close()


def test_the_graph_of_the_reference_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs/reference/listener-yaml.md").read_text()
    yaml, python = (block.text for block in blocks(page.partition("### The graph in Python")[2])[:2])
    read = written(tmp_path, yaml, python)
    (tmp_path / "handlers/dogs.py").write_text("from listener import Handler\n\n\nclass Dogs(Handler):\n    pass\n")
    modules = Modules(tmp_path)
    try:
        found = importing.expanded(read)
    finally:
        modules.close()
    assert found.parts["animals.switch.cases.dog.fallback[0].node"].handler == "handlers.dogs:Dogs"
    assert not [name for name in found.parts if "otherwise" in name]  # the same step again
    assert (found.choices, "dogs" in found.parts, found.parts["cats"].model) == (["animals"], True, None)
    on = found.graphs["animals"].node.on  # type: ignore[union-attr]
    assert callable(on.what) and on.what({"kind": "CAT"}, None) == "cat"


def test_a_graph_in_python_is_served(tmp_path: Path) -> None:
    python = """
        from listener import Handler, compose

        class Add(Handler):
            model = "add"
            def postprocess(self, outputs):
                return float(outputs["y"][0])

        def made():
            return compose.switch(
                {"true": compose.step(Add), "false": "pass"},
                function=lambda instance, context: instance[0] > 5,
            )
    """
    yaml = "routes:\n  r: {graph: 'handlers.graphs:made'}\n  s: {graph: 'handlers.graphs:Add'}\ndefault: r\n"
    written(tmp_path, yaml, python)
    triton = FakeTriton()
    triton.models["add"] = FakeModel({"x": ("FP32", [1])}, {"y": ("FP32", [1])}, lambda given: {"y": given["x"] + 1})
    with Client(tmp_path, triton) as client:
        assert client.predict([[9.0], [1.0]]) == [10.0, [1.0]]
        assert client.predict([[1.0]], parameters={"model": "s"}) == [2.0]
