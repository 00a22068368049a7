"""`listener graph`: what stands in the tree, in Mermaid and in SVG, and where in the SVG it stands."""

from __future__ import annotations

import os
import random
import re
import stat
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from listener import cli, nodes, service
from listener.errors import ConfigError
from listener.tools.drawing import files, layout, mermaid, picture, svg, tree
from listener.tools.drawing.layout import Line
from listener.tools.drawing.picture import Picture
from tests.markdown import blocks

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"

#: Names as no one should give them.
WILD = r"""
default: "ü <b>&amp; \"quoted\" [x] `y` \n end"
routes:
  "ü <b>&amp; \"quoted\" [x] `y` \n end":
    timeout: 2
    switch:
      header: X-Tier
      cases:
        "1. list": {sequence: [pass, {handler: "handlers.deep:Clean", offload: process}, {model: m, version: 3}]}
        "- a": {split: {arms: {a: 1, b: 2}}}
        end: "q@2"
        "__x__ **y** #35;": b
        subgraph: cats@2
        "a very long name, which goes on and on until nobody can read it any more": c
        "\e[31m日本語": {node: cats, retry: 2}
  c: {node: b}
  alone: {handler: "handlers.x:Y", version: 2}
nodes:
  a: {shadow: {node: cats, mirror: dogs}}
  b: {fallback: [q, {fallback: [r, {sequence: [s, {node: t, input: instance}]}]}]}
  cats: {handler: "handlers.cats:Cats", model: cats}
"""


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., Picture]:
    """The picture of a listener.yaml in a folder `zoo`."""

    def draw(text: str, route: str = "") -> Picture:
        folder = tmp_path / "zoo"
        folder.mkdir(exist_ok=True)
        (folder / service.FILE).write_text(text, encoding="utf-8")
        return picture.of(service.read(folder), {}, route)

    return draw


def example() -> str:
    """The example of listener-yaml.md."""
    return next(block.text for block in blocks(page()) if block.language == "yaml")


def page() -> str:
    """The part of listener-yaml.md about the graph."""
    text = (ROOT / "docs" / "reference" / "listener-yaml.md").read_text(encoding="utf-8")
    return text.partition("## The graph\n")[2].partition("\n## ")[0]


def said(text: str) -> str:
    """What a form says, without lines that were broken, numbers of characters and markup."""
    if text.startswith("<svg"):
        return "\n".join(element.text or "" for element in ET.fromstring(text).iter(f"{SVG}text"))
    if text.startswith("flowchart"):
        return re.sub(r"#(\d+);", lambda number: chr(int(number[1])), text.replace("<br>", "\n"))
    return " ".join(text.translate(dict.fromkeys(map(ord, "├─└│"))).split())


FORMS = pytest.mark.parametrize("form", [tree.text, mermaid.text, svg.text], ids=["tree", "mermaid", "svg"])


# What is said


@FORMS
@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("{model: other, version: 3}", ["model other@3"]),
        (
            "{handler: handlers.a:B, offload: process}",
            ["handler handlers.a:B", "the handler's model", "hooks: process"],
        ),
        ("{handler: handlers.a:B, model: m}", ["handler handlers.a:B", "model m"]),
        ("{model: m, timeout: 0.5, retry: 2}", ["model m", "timeout 0.5 s", "retry 2"]),
        ("{node: other, timeout: 2}", ["the same as", "timeout 2 s", "other"]),
        (
            "{sequence: [x, pass, {node: y, input: both}]}",
            ["sequence", "first", "then, instance and prediction", "pass"],
        ),
        ("{sequence: [x, {node: y, input: instance}]}", ["sequence", "then, the instance again", "y"]),
        ("{switch: {field: kind, cases: {cat: x}}}", ["switch by field kind of each instance", "cat", "answered 400"]),
        ("{switch: {header: H, cases: {1: x}, otherwise: y}}", ["switch by header h of the request", "1", "otherwise"]),
        ("{switch: {function: handlers.a:f, cases: {true: x}}}", ["function handlers.a:f of each instance", "true"]),
        ("{split: {arms: {x: 3, y: 1}, sticky: {field: user}}}", ["x: 75 %", "y: 25 %", "sticky by field user"]),
        ("{split: {arms: {x: 3, y: {weight: 1, node: x@2}}}}", ["y: 25 %", "x@2", "drawn for each request"]),
        ("{ensemble: {members: {a: x, b: y}, merge: mean, optional: [b]}}", ["merged: mean", "a", "b (optional)"]),
        ("{ensemble: {members: [x, y], merge: handlers.m:f}}", ["ensemble", "merged: handlers.m:f"]),
        ("{fallback: [{node: x, timeout: 1}, y]}", ["fallback", "first, timeout 1 s", "on failure"]),
        ("{shadow: {node: x, mirror: y, share: 0.25, limit: 7}}", ["answers", "mirror, 25 % of requests", "at most 7"]),
        ("{shadow: {node: x, mirror: y, compare: true}}", ["shadow", "mirror", "logs what differs"]),
        ("{cascade: {nodes: [x, y], below: 0.8}}", ["cascade", "first", "below 0.8", "greatest number"]),
        ("{cascade: {nodes: [x, y], below: 0.8, score: a.b}}", ["score: a.b"]),
    ],
)
def test_each_kind_says_what_it_does(
    drawn: Callable[..., Picture], form: Callable[[Picture], str], node: str, words: list[str]
) -> None:
    text = said(form(drawn(f"routes:\n  it: {node}\n")))
    assert [word for word in ["it", "default", *words] if word not in text] == []


@FORMS
def test_what_requests_cannot_name_is_marked(drawn: Callable[..., Picture], form: Callable[[Picture], str]) -> None:
    with_nodes = "routes: {a: {fallback: [b, c]}}\nnodes: {b: {model: m}}\n"
    assert "inner" in said(form(drawn(with_nodes)))
    assert "inner" not in said(form(drawn("routes: {a: {fallback: [b, c]}}\n"))).replace("classDef inner", "")


def test_a_mirror_is_dashed(drawn: Callable[..., Picture]) -> None:
    made = drawn("routes: {a: {shadow: {node: x, mirror: y}}}\n")
    assert [edge.dashed for edge in made.edges] == [False, True]
    assert '-.->|"mirror"|' in mermaid.text(made)
    classes = [path.get("class") for path in ET.fromstring(svg.text(made)).iter(f"{SVG}path") if path.get("marker-end")]
    assert classes == ["edge", "edge dashed"]


def test_a_step_within_a_node_has_no_name_and_is_drawn_once(drawn: Callable[..., Picture]) -> None:
    made = drawn("routes: {a: {fallback: [{handler: h.m:C}, {model: m, timeout: 1}]}}\n")
    assert [(box.name, box.what) for box in made.boxes.values()][1:] == [("", "handler h.m:C"), ("", "model m")]
    assert made.roots == ["a@"]


def test_limits_of_a_way_to_what_others_ask_too_are_those_of_the_way(drawn: Callable[..., Picture]) -> None:
    made = drawn("default: a\nroutes: {a: {fallback: [{node: c, timeout: 1}, b]}, b: {fallback: [c, d]}}\n")
    assert [edge.label for edge in made.edges if edge.target == "c@"] == ["first, timeout 1 s", "first"]
    assert made.boxes["c@"].details == ()


def test_a_version_stands_for_the_node_that_it_is_of(drawn: Callable[..., Picture]) -> None:
    made = drawn("routes: {a: {fallback: ['b@1', 'm@1']}}\nnodes: {b: {handler: h.m:C}, c: {model: m}}\n")
    assert [box.name for box in made.boxes.values()] == ["a", "b@1", "m@1", "c"]
    assert [box.name for box in made.boxes.values() if box.inner] == ["b@1", "c"]


def test_functions_of_a_graph_in_python_are_named() -> None:
    node = nodes.Switch(nodes.From("function", said), {"a": nodes.Ref("x")})
    made = picture.of(service.Service(Path("/zoo"), Path("/zoo/r"), "it", {}, {"it": nodes.Named("it", node)}), {})
    assert made.boxes["it@"].what == f"switch by function {__name__}:said of each instance"


def test_the_default_comes_first(drawn: Callable[..., Picture]) -> None:
    made = drawn("default: b\nroutes: {a: {fallback: [x, y]}, b: {fallback: [z, y]}, c: {}}\n")
    assert made.roots == ["b@", "a@", "c@"]
    assert [box.name for box in made.boxes.values() if box.default] == ["b"]


def test_one_route_alone(drawn: Callable[..., Picture]) -> None:
    text = "default: a\nroutes: {a: {fallback: [b, x]}, b: {fallback: [y, z]}, c: {}}\n"
    assert [box.name for box in drawn(text, "b").boxes.values()] == ["b", "y", "z"]
    with pytest.raises(ConfigError, match="--route: no route or node 'bb'; did you mean 'b'"):
        drawn(text, "bb")


# The tree


def test_a_node_is_drawn_once(drawn: Callable[..., Picture]) -> None:
    made = drawn("default: a\nroutes: {a: {fallback: [b, x]}, b: {fallback: [y, z]}, c: {fallback: [b, b]}}\n")
    assert tree.text(made) == (
        "a: default · fallback, the first that answers\n"
        "├─ first → b: fallback, the first that answers\n"
        "│  ├─ first → y: model\n"
        "│  └─ on failure → z: model\n"
        "└─ on failure → x: model\n"
        "\n"
        "b: fallback, the first that answers · see a\n"
        "\n"
        "c: fallback, the first that answers\n"
        "├─ first → b: fallback, the first that answers · see a\n"
        "└─ on failure → b: fallback, the first that answers · see a\n"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_the_tree_can_be_said_in_the_encoding_and_fits(drawn: Callable[..., Picture], encoding: str) -> None:
    text = tree.text(drawn(WILD), encoding)
    assert text.encode(encoding)
    assert ("├─ " in text) == (encoding == "utf-8")
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 110


def test_what_lies_deep_is_drawn_as_well(drawn: Callable[..., Picture]) -> None:
    deep = "x"
    for number in range(40):
        deep = f"{{fallback: [y{number}, {deep}]}}"
    text = tree.text(drawn(f"routes: {{a: {deep}}}\n"), width=80)
    assert text.endswith("└─ on failure → x: model\n")


def test_colours_change_nothing_else(drawn: Callable[..., Picture]) -> None:
    made = drawn(example())
    styled = tree.text(made, styled=True)
    assert "\x1b[" in styled
    assert click.unstyle(styled) == tree.text(made)


# Mermaid


def test_every_line_of_mermaid_is_a_box_an_edge_or_a_class(drawn: Callable[..., Picture]) -> None:
    first, *lines = mermaid.text(drawn(WILD)).splitlines()
    assert first == "flowchart LR"
    label = r'"(?:<b>[^"<>]*</b>)?(?:<br>|[^"<>])*"'
    box = rf"  n\d+(?:\(\[{label}\]\)|\[{label}\]|{{{{{label}}}}})(?::::\w+)?"
    edge = rf"  n\d+ -(?:-|\.-)>(?:\|{label}\|)? n\d+"
    style = r"  classDef \w+ [\w:,\- ]+"
    assert [line for line in lines if not re.fullmatch(f"{box}|{edge}|{style}", line)] == []


@pytest.mark.parametrize(
    "name", ['"', "<b>", "&amp;", "#35;", "1. x", "2) x", "- x", "`x`", "**x**", "__x__", "a|b", "é"]
)
def test_mermaid_gets_names_as_they_are_and_sees_no_markup(name: str) -> None:
    made = mermaid.escaped(name)
    assert re.sub(r"#(\d+);", lambda number: chr(int(number[1])), made) == name
    assert not re.search(r'["<>&`*|]|#(?!\d+;)|^\d+[.)]|^-|(?<!\w)_|_(?!\w)', made)


def test_a_page_gets_a_block(drawn: Callable[..., Picture]) -> None:
    made = drawn(WILD)
    (block,) = blocks(mermaid.fenced(made))
    assert (block.language, block.text) == ("mermaid", mermaid.text(made))


# SVG


def numbers(element: ET.Element, *names: str) -> list[float]:
    return [float(element.get(name, "nan")) for name in names]


Area = tuple[float, float, float, float]


def areas(root: ET.Element) -> tuple[list[Area], list[tuple[float, ...]], Area]:
    """Left, top, right, bottom of the boxes; the first and last points of edges; the whole area; in one system."""
    group = next(g for g in root.iter(f"{SVG}g") if g.get("transform"))
    left, top = map(float, re.findall(r"[\d.]+", group.get("transform", "")))
    rects = [numbers(r, "x", "y", "width", "height") for r in group.iter(f"{SVG}rect") if "box" in r.get("class", "")]
    found = [(x + left, y + top, x + left + w, y + top + h) for x, y, w, h in rects]
    ends = []
    for path in group.iter(f"{SVG}path"):
        if path.get("marker-end"):
            points = [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path.get("d", ""))]
            (x, y), (end_x, end_y) = points[0], points[-1]
            ends.append((x + left, y + top, end_x + left, end_y + top))
    return found, ends, tuple(map(float, root.get("viewBox", "").split()))  # type: ignore[return-value]


def tangle(seed: int) -> str:
    """A service with many edges in all directions but back."""
    chance = random.Random(seed)
    count = chance.randrange(3, 25)
    routes = []
    for index in range(count):
        below = [f"n{chance.randrange(index + 1, count + 4)}" for _ in range(chance.randrange(1, 7))]
        cases = ", ".join(f"case{number}: {name}" for number, name in enumerate(below))
        routes.append(f"  n{index}: {{switch: {{field: k, cases: {{{cases}}}}}}}\n")
    return "default: n0\nroutes:\n" + "".join(routes)


@pytest.mark.parametrize(
    "text",
    [example(), WILD, "routes: {a: {}, b: {}, c: {handler: h.m:C}}\ndefault: a\n", *map(tangle, range(12))],
    ids=str.__len__,
)
def test_boxes_lie_apart_and_within_the_picture_and_edges_lead_from_box_to_box(
    drawn: Callable[..., Picture], text: str
) -> None:
    made = drawn(text)
    boxes, ends, (_, _, width, height) = areas(ET.fromstring(svg.text(made)))
    assert (len(boxes), len(ends)) == (len(made.boxes), len(made.edges))
    assert [box for box in boxes if not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height)] == []
    overlaps = [
        (a, b) for a, b in combinations(boxes, 2) if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]
    assert overlaps == []
    at = dict(zip(made.boxes, boxes, strict=True))
    for edge, (x, y, end_x, end_y) in zip(made.edges, ends, strict=True):
        source, target = at[edge.source], at[edge.target]
        assert (x, end_x) == pytest.approx((source[2], target[0]), abs=0.2)
        assert source[1] < y < source[3]
        assert target[1] < end_y < target[3]


def test_an_edge_over_several_columns_keeps_clear_of_boxes_between() -> None:
    sizes = dict.fromkeys("abcd", (100.0, 40.0))
    pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("a", "c")]
    made = layout.place(sizes, [Line(source, target, 30) for source, target in pairs])
    for (source, target), way in zip(pairs, made.ways, strict=True):
        assert (way[0].start, way[-1].end) == (made.boxes[source].right, made.boxes[target].x)
        between = [rect for name, rect in made.boxes.items() if source < name < target]
        for bend in way:
            passed = [r for r in between if r.x < bend.straight and r.right > bend.start and r.y <= bend.y <= r.bottom]
            assert passed == []


def test_boxes_change_places_where_that_saves_crossings() -> None:
    """As they are met, x would lie above y: two crossings in place of one."""
    sizes = dict.fromkeys("abcdxyz", (100.0, 40.0))
    pairs = [("a", "x"), ("b", "y"), ("c", "x"), ("d", "x"), ("x", "z"), ("y", "z")]
    made = layout.place(sizes, [Line(source, target, 0) for source, target in pairs])
    assert made.boxes["y"].bottom < made.boxes["x"].y
    assert [made.boxes[name].y for name in "abcd"] == sorted(made.boxes[name].y for name in "abcd")


def test_the_svg_needs_nothing_and_knows_the_dark(drawn: Callable[..., Picture]) -> None:
    text = svg.text(drawn(WILD))
    assert not re.search(r"<script|href|@import|@font-face|<foreignObject", text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme: dark" in text


# The command


def graph(*arguments: object) -> Result:
    return CliRunner().invoke(cli.cli, ["graph", *map(str, arguments)])


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / service.FILE).write_text(example())
    return folder


@pytest.mark.parametrize(
    ("name", "start"),
    [("g.svg", "<svg "), ("g.SVG", "<svg "), ("g.mmd", "flowchart"), ("g.md", "```mermaid"), ("g.txt", "a")],
)
def test_the_ending_says_the_form(zoo: Path, tmp_path: Path, name: str, start: str) -> None:
    file = tmp_path / name
    done = graph("--service", zoo, "--out", file)
    assert (done.exit_code, done.output.count("\n")) == (0, 1), done.output
    assert done.output.startswith(f"Wrote {file}: ")
    assert file.read_text(encoding="utf-8").startswith(start)
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def refused(*arguments: object) -> str:
    done = graph(*arguments)
    assert done.output == ""
    assert isinstance(done.exception, ConfigError)
    (sentence,) = done.exception.mistakes
    return sentence


def test_what_cannot_be_written_is_one_sentence(zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.svg").mkdir()
    places = {
        "g.png": "the ending says the form; known are .svg, .mmd, .md, .txt",
        "g": "the ending says the form; known are .svg, .mmd, .md, .txt",
        "none/g.svg": f"cannot be written: {tmp_path}/none: no such folder",
        "file/g.svg": "cannot be written: Not a directory",
        "folder.svg": "cannot be written: is a folder",
    }
    for name, reason in places.items():
        assert refused("--service", zoo, "--out", tmp_path / name) == f"--out '{tmp_path / name}': {reason}"


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "g.svg"
    file.write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        files.write("after", file)
    assert [path.name for path in tmp_path.iterdir()] == ["g.svg"]
    assert file.read_text() == "before"


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    file, link = tmp_path / "g.svg", tmp_path / "link.svg"
    files.write("1", file)
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    file.chmod(0o640)
    link.symlink_to(file)
    files.write("2", link)
    assert (file.read_text(), link.is_symlink(), stat.S_IMODE(file.stat().st_mode)) == ("2", True, 0o640)


def test_a_wrong_listener_yaml_gives_the_usual_mistakes(tmp_path: Path) -> None:
    (tmp_path / service.FILE).write_text("routes: {a: {fallback: [a, b]}}\n")
    assert refused("--service", tmp_path) == f"{tmp_path}/listener.yaml:1: the graph has a cycle: a -> a"


def test_a_repository_alone(tmp_path: Path) -> None:
    for name in ("beta", "alpha"):
        (tmp_path / name / "1").mkdir(parents=True)
    done = graph("--repository", tmp_path)
    assert done.output == "alpha: model\nbeta: model\n\nEach request names its model.\n"
    assert graph("--repository", tmp_path, "--route", "beta").output == "beta: model\n"
    assert graph("--repository", tmp_path, "--default-model", "beta").output == "beta: default · model\nalpha: model\n"


def test_a_service_without_routes_serves_the_models_of_its_repository(tmp_path: Path) -> None:
    (tmp_path / service.FILE).write_text("repository: models\nnodes: {b: {handler: h.m:C, model: m}}\n")
    (tmp_path / "models").mkdir()
    assert refused("--service", tmp_path) == f"{tmp_path}/models: has no model, so there is nothing to draw"
    (tmp_path / "models" / "a").mkdir()
    drawing = graph("--service", tmp_path).output
    assert drawing == ("a: default · model\nb: inner · handler h.m:C · model m\n\ninner: requests cannot name it\n")


@pytest.mark.usefixtures("own_imports")
def test_the_model_of_a_handler_is_known_where_it_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "handlers").mkdir()
    source = "from listener import Handler\nprint('loud')\nclass A(Handler):\n    model = 'mine'\n"
    (tmp_path / "handlers" / "good.py").write_text(source)
    (tmp_path / "handlers" / "bad.py").write_text("import nothing_of_that_name\n")
    text = "default: a\nroutes: {a: {handler: handlers.good:A}, b: {handler: handlers.bad:B}}\n"
    (tmp_path / service.FILE).write_text(text)
    assert graph("--service", tmp_path).stdout == (
        "a: default · handler handlers.good:A · model mine\nb: handler handlers.bad:B · the handler's model\n"
    )


# The documentation


def test_the_tree_in_the_documentation_is_the_one_that_is_printed(zoo: Path) -> None:
    shown = next(block.text for block in blocks(page()) if block.text.startswith("$ listener graph\n"))
    assert shown == f"$ listener graph\n{graph('--service', zoo).output}"


def test_the_picture_in_the_documentation_is_the_one_that_is_written(zoo: Path, tmp_path: Path) -> None:
    """To renew it: `listener graph --out docs/graph.svg` for the page's example, in a folder `zoo`."""
    graph("--service", zoo, "--out", tmp_path / "graph.svg")
    assert (ROOT / "docs" / "graph.svg").read_bytes() == (tmp_path / "graph.svg").read_bytes()
