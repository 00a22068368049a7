"""What a route waits for: told from its description alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from listener import needs, service
from listener.needs import AllOf, Leaf, Need, OneOf

HAS_NONE = "route 'r' has no alternative that is ready: "
THREE = "model 'a' is not ready; model 'b' is not ready; model 'c' is not ready"


def told(folder: Path, yaml: str) -> dict[str, Need]:
    """The needs of a service whose steps have the models that they name, or those of their own name."""
    (folder / "listener.yaml").write_text(yaml)
    found = service.read(folder)
    return needs.of_service(found, {name: step.model or name for name, step in found.steps.items()})


def missing(need: Need, *lacking: str) -> list[str]:
    """What route `r` waits for while some models, or versions `m@1`, are not ready."""

    def lack(leaf: Leaf) -> str:
        name = f"{leaf.model}@{leaf.version}" if leaf.version else leaf.model
        return f"model {name!r} is not ready" if name in lacking else ""

    return needs.missing(need, lack, "r")


A, B, C = (Leaf(name, name) for name in "abc")


@pytest.mark.parametrize(
    ("node", "waits_for"),
    [
        ("{sequence: [a, b]}", "ab"),
        ("{switch: {field: k, cases: {x: a, y: b}, otherwise: c}}", "abc"),
        ("{split: {arms: {a: 1, b: 9}}}", "ab"),
        ("{cascade: {nodes: [a, b], below: 0.5}}", "ab"),
        ("{ensemble: {members: [a, b, c], optional: [b]}}", "ac"),
        ("{ensemble: {members: [a], optional: [a]}}", ""),
        ("{shadow: {node: a, mirror: b}}", "a"),
        ("{node: a, timeout: 1}", "a"),
        ("{sequence: [pass, a]}", "a"),
        ("{sequence: [{handler: 'x:Y', model: a}, b]}", "ab"),
    ],
)
def test_each_kind_waits_for(tmp_path: Path, node: str, waits_for: str) -> None:
    need = told(tmp_path, f"routes: {{r: {node}}}")["r"]
    assert [missing(need, name) != [] for name in "abc"] == [name in waits_for for name in "abc"]


def test_a_fallback_waits_for_one_of_its_alternatives(tmp_path: Path) -> None:
    need = told(tmp_path, "routes: {r: {fallback: [{node: a, timeout: 1}, {sequence: [b, c]}]}}")["r"]
    assert [missing(need, *lacking) for lacking in ("a", "b", "bc")] == [[], [], []]
    assert missing(need, "a", "b") == [
        "route 'r' has no alternative that is ready: model 'a' is not ready; model 'b' is not ready"
    ]
    assert missing(need, "a", "b", "c") == [HAS_NONE + THREE]


def test_alternatives_within_alternatives_and_one_alone() -> None:
    inner = OneOf((B, C))
    assert missing(OneOf((A, inner)), *"ab") == []
    assert missing(OneOf((A, inner)), *"abc") == [HAS_NONE + THREE]
    assert missing(OneOf((A, A)), "a") == ["route 'r' has no alternative that is ready: model 'a' is not ready"]
    assert missing(AllOf((A, inner, A)), *"abc") == [
        "model 'a' is not ready",
        "route 'r' has no alternative that is ready: model 'b' is not ready; model 'c' is not ready",
    ]


def test_a_version_that_is_fixed_is_waited_for(tmp_path: Path) -> None:
    needed = told(
        tmp_path,
        """
default: r
routes:
  r: {split: {arms: {old: 9, new: {weight: 1, node: "m@2"}}}}
  s: {node: "limited@3"}
nodes:
  old: {model: m, version: 1}
  limited: {node: old, timeout: 1}
""",
    )
    assert [*needs.leaves(needed["r"])] == [Leaf("old", "m", "1"), Leaf("m", "m", "2")]
    assert [*needs.leaves(needed["s"])] == [Leaf("old", "m", "3")]


def test_a_node_that_nothing_refers_to_is_there_for_handlers(tmp_path: Path) -> None:
    needed = told(
        tmp_path,
        "routes: {r: {shadow: {node: a, mirror: b}}}\nnodes: {b: {model: m}, c: {}, d: {model: m, timeout: 1}}",
    )
    assert needed == {"r": A, "c": C, "d": AllOf((Leaf("d.node", "m"),))}
