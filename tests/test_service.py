"""listener.yaml: what it says, and a sentence with file and line for everything that is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from listener import service
from listener.errors import ConfigError
from listener.service import Route


def write(folder: Path, text: str | bytes) -> Path:
    (folder / "listener.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return folder


OF_A_NODE = (
    "cascade, ensemble, errors, fallback, graph, handler, model, node, offload, retry, sequence, shadow, split, "
    "switch, timeout, version"
)


def mistakes(folder: Path, text: str | bytes) -> list[str]:
    """The sentences, each without the file's path that it must start with."""
    file = write(folder, text) / "listener.yaml"
    with pytest.raises(ConfigError) as caught:
        service.read(folder)
    assert [sentence for sentence in caught.value.mistakes if not sentence.startswith(f"{file}:")] == []
    return [sentence.removeprefix(str(file)) for sentence in caught.value.mistakes]


# What a right file says


def test_the_whole_of_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        """# a comment
repository: models
default: digits
routes:
  digits:
    handler: handlers.digits:Digits
    model: digits_onnx
  raw: {}
  plain: ~
""",
    )
    read = service.read(tmp_path)
    assert (read.folder, read.file, read.repository) == (tmp_path, tmp_path / "listener.yaml", tmp_path / "models")
    assert read.default == "digits"
    assert read.routes == {
        "digits": Route("digits", "handlers.digits:Digits", "digits_onnx", 5),
        "raw": Route("raw", None, None, 8),
        "plain": Route("plain", None, None, 9),
    }


def test_the_least_of_it(tmp_path: Path) -> None:
    read = service.read(write(tmp_path, "routes: {digits: }\n"))
    assert (read.default, read.repository) == ("digits", tmp_path / "triton_repo")


@pytest.mark.parametrize("text", ["", "# nothing\n", "~\n", "routes: {}\n", "routes:\n"])
def test_without_routes_every_model_is_served(tmp_path: Path, text: str) -> None:
    read = service.read(write(tmp_path, text))
    assert (read.default, read.routes, read.repository) == ("", {}, tmp_path / "triton_repo")
    assert service.read(tmp_path, "b").default == "b"


def test_without_routes_the_default_is_a_model(tmp_path: Path) -> None:
    read = service.read(write(tmp_path, "default: a\n"))
    assert (read.default, read.routes) == ("a", {})


def test_a_default_that_is_no_route_is_a_model_as_it_is(tmp_path: Path) -> None:
    read = service.read(write(tmp_path, "routes: {a: , b: }\ndefault: c\n"))
    assert read.default == "c"
    assert read.routes == {"a": Route("a", line=1), "b": Route("b", line=1), "c": Route("c")}


@pytest.mark.parametrize("own", ["default: b\n", ""])
def test_a_default_that_is_given_wins(tmp_path: Path, own: str) -> None:
    read = service.read(write(tmp_path, f"routes: {{a: , b: }}\n{own}"), "a")
    assert (read.default, list(read.routes)) == ("a", ["a", "b"])
    assert service.read(tmp_path, "c").routes["c"] == Route("c")


def test_a_repository_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert service.bare(Path("models"), "a") == service.Service(tmp_path / "models", tmp_path / "models", "a", {})
    assert service.bare(Path("models")).default == ""


@pytest.mark.parametrize(
    ("repository", "expected"),
    [("models", "{}/models"), ("./a/../models", "{}/models"), ("/srv/models", "/srv/models"), ("~", "{}/triton_repo")],
    ids=["relative", "dots", "absolute", "null"],
)
def test_the_repository_is_taken_from_the_folder_on(tmp_path: Path, repository: str, expected: str) -> None:
    read = service.read(write(tmp_path, f"repository: {repository}\nroutes: {{a: }}\n"))
    assert str(read.repository) == expected.format(tmp_path)


def test_a_relative_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path, "routes: {a: }\n"))
    assert service.read(Path(".")).folder == tmp_path


@pytest.mark.parametrize("value", ["5", "true", "1.5", "2024-01-01"])
def test_a_name_that_yaml_takes_for_something_else_is_still_a_name(tmp_path: Path, value: str) -> None:
    read = service.read(write(tmp_path, f"default: {value}\nroutes:\n  {value}:\n    model: {value}\n"))
    assert (read.default, read.routes[value].model) == (value, value)


def test_anchors_and_aliases_work(tmp_path: Path) -> None:
    read = service.read(write(tmp_path, "default: a\nroutes:\n  a: &a {model: m}\n  b: *a\n"))
    assert [(route.name, route.model, route.line) for route in read.routes.values()] == [("a", "m", 3), ("b", "m", 4)]


# What can be wrong

INDENTATION = "check the indentation and the space after each ':'; quote text with ': ' in it"
NO_MAPPING = ":1: the file is not a mapping of keys to values"
HANDLER = "is not of the form 'module.path:Class'"

WRONG: dict[str, tuple[str, list[str]]] = {
    "a list": ("- a\n- b\n", [NO_MAPPING]),
    "a word": ("hello\n", [NO_MAPPING]),
    "routes is a list": ("routes: [a]\n", [":1: 'routes' is not a mapping of keys to values"]),
    "a route is a word": (
        "routes:\n  a:\n    handlers.a:A\n",
        [":3: routes.a is not a mapping of keys to values"],
    ),
    "unknown key, guessed": (
        "repositry: x\nroutes: {a: }\n",
        [":1: unknown key 'repositry' in the file; did you mean 'repository'?"],
    ),
    "unknown key, not guessed": (
        "routes: {a: }\n\nport: 80\n",
        [":3: unknown key 'port' in the file; known are default, nodes, repository, routes"],
    ),
    "unknown key in a route": (
        "routes:\n  a:\n    handlr: x\n",
        [":3: unknown key 'handlr' in routes.a; did you mean 'handler'?"],
    ),
    "unknown key in a route, not guessed": (
        "routes:\n  a:\n    colour: 3\n",
        [f":3: unknown key 'colour' in routes.a; known are {OF_A_NODE}"],
    ),
    "several unknown keys, in the order of the file": (
        "zeta: 1\nalpha: 2\nroutes:\n  a:\n    yps: 1\n    beta: 2\n    xi: 3\n",
        [
            f":5: unknown key 'yps' in routes.a; known are {OF_A_NODE}",
            f":6: unknown key 'beta' in routes.a; known are {OF_A_NODE}",
            f":7: unknown key 'xi' in routes.a; known are {OF_A_NODE}",
            ":1: unknown key 'zeta' in the file; known are default, nodes, repository, routes",
            ":2: unknown key 'alpha' in the file; known are default, nodes, repository, routes",
        ],
    ),
    "a key twice": (
        "default: a\nroutes: {a: }\ndefault: a\n",
        [":3: 'default' stands twice in the file"],
    ),
    "a route twice": (
        "default: a\nroutes:\n  a: {}\n  a: {}\n",
        [":4: 'a' stands twice in 'routes'"],
    ),
    "a key twice in a route": (
        "routes:\n  a:\n    model: x\n    model: y\n",
        [":4: 'model' stands twice in routes.a"],
    ),
    "a list for text": (
        "repository: [a]\nroutes: {a: }\n",
        [":1: 'repository' is not a piece of text"],
    ),
    "empty text": ("routes:\n  a:\n    model: ''\n", [":3: 'model' is not a piece of text"]),
    "default is a mapping": ("default: {a: }\nroutes: {a: }\n", [":1: 'default' is not a piece of text"]),
    "default is missing": (
        "routes: {a: , b: }\n",
        [":1: 'default' is missing; it chooses one of the routes a, b"],
    ),
    "a path for a handler": (
        "routes:\n  a:\n    handler: handlers/a.py\n",
        [f":3: 'handlers/a.py' {HANDLER}"],
    ),
    "a handler without a class": ("routes:\n  a:\n    handler: handlers.a\n", [f":3: 'handlers.a' {HANDLER}"]),
    "a handler with an empty class": ("routes:\n  a: {handler: 'a:'}\n", [f":2: 'a:' {HANDLER}"]),
    "a handler with an empty module": ("routes:\n  a: {handler: ':A'}\n", [f":2: ':A' {HANDLER}"]),
    "a handler with two colons": ("routes:\n  a: {handler: 'a:B:C'}\n", [f":2: 'a:B:C' {HANDLER}"]),
    "a relative handler": ("routes:\n  a: {handler: .a:A}\n", [f":2: '.a:A' {HANDLER}; did you mean 'a:A'?"]),
    "a handler that is a list": ("routes:\n  a: {handler: [a:A]}\n", [":2: 'handler' is not a piece of text"]),
    "several mistakes": (
        "default: [x]\nroutes:\n  a:\n    handler: nope\n    modle: m\n  b: 5\nfoo: 1\n",
        [
            ":1: 'default' is not a piece of text",
            f":4: 'nope' {HANDLER}",
            ":5: unknown key 'modle' in routes.a; did you mean 'model'?",
            ":6: routes.b is not a mapping of keys to values",
            ":7: unknown key 'foo' in the file; known are default, nodes, repository, routes",
        ],
    ),
    "tabs": (
        "routes:\n\ta: {}\n",
        [":2: not YAML: found character '\\t' that cannot start any token; use spaces in place of tabs"],
    ),
    "an open bracket": ("routes: {a: b\n", [":2: not YAML: expected ',' or '}', but got '<stream end>'"]),
    "a wrong indentation": (
        "routes:\n  a: {}\n   b: {}\n",
        [":3: not YAML: expected <block end>, but found '<block mapping start>'; check the indentation"],
    ),
    "a key below text": (
        "routes:\n  a:\n    model: m\n      version: 1\n",
        [f":4: not YAML: mapping values are not allowed here; {INDENTATION}"],
    ),
    "no space after a colon": (
        "routes:\n  a:\n    model:m\n",
        [":3: routes.a is not a mapping of keys to values; write a space after ':'"],
    ),
    "one key without a space": (
        "routes:\n  a:\n    model:m\n    version: 1\n",
        [f":4: not YAML: mapping values are not allowed here; {INDENTATION}"],
    ),
    "a key that belongs below routes": (
        "default: a\nroutes:\n  a: {}\ntolerant:\n  model: m\n  errors: per_instance\n",
        [":4: unknown key 'tolerant' in the file; does it belong below 'routes'?"],
    ),
    "an unknown alias": ("routes:\n  a: *b\n", [":2: not YAML: found undefined alias 'b'"]),
    "two documents": ("---\nroutes: {a: }\n---\nroutes: {b: }\n", [":3: not YAML: but found another document"]),
}


A = "routes:\n  a:\n    "
NO_REQUESTS = "; leave the arm out for no requests"
WEIGHT = "is not a number above 0 and up to 1000000000"
IN_QUOTES = "in quotes for the text"

WRONG_GRAPHS: dict[str, tuple[str, list[str]]] = {
    **{
        f"a weight of {weight}": (
            f"{A}split:\n      arms: {{x: 1, y: {weight}}}\n",
            [f":4: the weight of routes.a.split.arms.y {WEIGHT}{NO_REQUESTS if weight == '0' else ''}"],
        )
        for weight in ("0", "-1", ".nan", "nan", ".inf", "1e400", "~", "much", "[1]", "{}")
    },
    "no arms": (f"{A}split: {{arms: {{}}}}\n", [":3: 'arms' of routes.a.split is not a mapping of one or more"]),
    "arms as a list": (f"{A}split: {{arms: [x]}}\n", [":3: routes.a.split.arms is not a mapping of keys to values"]),
    "a split as a list": (f"{A}split: [x]\n", [":3: routes.a.split is not a mapping of keys to values"]),
    "a switch as text": (f"{A}switch: x\n", [":3: routes.a.switch is not a mapping of keys to values"]),
    "an arm without a name": (f"{A}split: {{arms: {{'': 1}}}}\n", [":3: routes.a.split.arms has an empty name"]),
    "an arm twice": (f"{A}split: {{arms: {{x: 1, x: 2}}}}\n", [":3: 'x' stands twice in routes.a.split.arms"]),
    "sticky as text": (
        f"{A}split: {{arms: {{x: 1}}, sticky: user}}\n",
        [":3: 'sticky' of routes.a.split is 'user'; say where that lies: {field: user}, or header, or parameter"],
    ),
    "errors within a graph": (
        f"{A}fallback: [m, {{model: x, errors: per_instance}}]\n",
        [":3: unknown key 'errors' in routes.a.fallback[1]; only routes have it"],
    ),
    "a weight twice": (
        f"{A}split: {{arms: {{x: {{weight: 1, weight: 2}}}}}}\n",
        [":3: 'weight' stands twice in routes.a.split.arms.x"],
    ),
    "a case twice": (
        f"{A}switch:\n      field: k\n      cases:\n        true: x\n        'true': y\n",
        [":7: 'true' stands twice in routes.a.switch.cases"],
    ),
    **{
        f"a case {case}": (
            f"{A}switch: {{field: k, cases: {{{case}: x}}}}\n",
            [
                f":3: routes.a.switch.cases has the case {case!r}, which JSON writes {json}; write that, or {case!r} "
                f"{IN_QUOTES}"
            ],
        )
        for case, json in {"True": "true", "1.0": "1", "007": "7", "~": "null", "1.50": "1.5"}.items()
    },
    "a case that is empty": (
        f"{A}switch: {{field: k, cases: {{? : x}}}}\n",
        [":3: routes.a.switch.cases has the case '', which is empty; write \"\" for the empty text"],
    ),
    "a case without a node": (
        f"{A}switch: {{field: k, cases: {{x: }}}}\n",
        [":3: routes.a.switch.cases.x is empty; it has to be a node"],
    ),
    "a function that is none": (
        f"{A}switch: {{function: f, cases: {{x: y}}}}\n",
        [":3: 'f' is not of the form 'module.path:function'"],
    ),
    "members without names": (
        f"{A}ensemble: {{members: [x, [y]]}}\n",
        [":3: routes.a.ensemble.members[1] is not a name; give it one: {a: NODE, b: NODE}"],
    ),
    "a member twice": (
        f"{A}ensemble: {{members: [x, x]}}\n",
        [":3: routes.a.ensemble.members[1] is 'x', which stands there twice; give them names: {a: NODE, b: NODE}"],
    ),
    "optional, and no member": (
        f"{A}ensemble: {{members: [x], optional: [y, [z]]}}\n",
        [
            ":3: 'optional' of routes.a.ensemble has something that is no name",
            ":3: 'optional' of routes.a.ensemble names 'y', which is no member",
        ],
    ),
    "a merge that is none": (
        f"{A}ensemble: {{members: [x], merge: meen}}\n",
        [":3: 'merge' of routes.a.ensemble is 'meen'; it can be object, mean, vote, or module.path:function"],
    ),
    "numbers that are none": (
        f"{A}cascade: {{nodes: [x, y], below: .nan}}\n    timeout: -1\n    retry: 1.5\n",
        [
            ":3: 'below' of routes.a.cascade is not a number",
            ":4: 'timeout' of routes.a is not a number above 0 and up to 3600",
            ":5: 'retry' of routes.a is not a whole number from 0 to 100",
        ],
    ),
    "a mirror's numbers": (
        f"{A}shadow: {{node: x, mirror: y, limit: 0.5, share: 2}}\n",
        [
            ":3: 'share' of routes.a.shadow is not a number above 0 and up to 1",
            ":3: 'limit' of routes.a.shadow is not a whole number from 1 to 10000",
        ],
    ),
    "version 0": (f"{A}version: 0\n", [":3: 'version' of routes.a is '0'; a version is a whole number from 1 on"]),
    "a version without end": (
        f"{A}node: x@{'9' * 30}\n",
        [f":3: routes.a.node is 'x@{'9' * 30}'; a version is a whole number from 1 on"],
    ),
    "@0": (f"{A}node: x@0\n", [":3: routes.a.node is 'x@0'; a version is a whole number from 1 on"]),
    "a version of nothing": (f"{A}node: '@1'\n", [":3: routes.a.node is '@1', which is not NAME or NAME@VERSION"]),
    "a version of pass": (
        f"{A}node: pass@1\n",
        [":3: routes.a.node is 'pass@1'; 'pass' is no model and has no versions"],
    ),
    "a version of several steps": (
        "routes:\n  a: {node: b@2}\nnodes:\n  b: {fallback: [x, y]}\n",
        [":2: routes.a.node: 'b' has several steps, and no versions"],
    ),
    "where hooks cannot run": (
        f"{A}offload: gpu\n",
        [":3: 'offload' of routes.a is 'gpu'; it can be thread, process, inline"],
    ),
    "two kinds": (f"{A}node: x\n    fallback: [x, y]\n", [":4: routes.a is of several kinds: node, fallback"]),
    "one name for two": (
        "routes: {a: {}}\nnodes:\n  a: {}\n",
        [":3: 'a' is the name of a route already; two nodes cannot have one name"],
    ),
    "a place that is a name": (
        "routes: {a: {split: {arms: {x: {weight: 1, model: m}}}}}\nnodes: {a.split.arms.x: {}}\n",
        [":1: routes.a.split.arms.x is called 'a.split.arms.x', as 'a.split.arms.x' is already; rename that"],
    ),
    "names that cannot be": (
        "routes: {a: {}}\nnodes: {pass: {}, x@1: {}, '': {}}\n",
        [
            ":2: 'pass' is a node of its own and cannot be a name",
            ":2: 'x@1' cannot be a name: what follows an @ is a version",
            ":2: a name is empty",
        ],
    ),
    "a default that cannot be chosen": (
        "routes: {a: {}}\nnodes: {old: {}}\ndefault: old\n",
        [":3: the default 'old' is one of 'nodes', which no request can choose; it has to be in 'routes'"],
    ),
    "cycles, and something else": (
        "default: a\nroutes:\n  a: {node: b}\n  b: {node: a}\n  c: {node: c}\n  d: {retry: x}\n",
        [
            ":6: 'retry' of routes.d is not a whole number from 0 to 100",
            ":3: the graph has a cycle: a -> b -> a",
            ":5: the graph has a cycle: c -> c",
        ],
    ),
    "too many nodes one within the other": (
        "routes:\n" + "".join(f"  n{i}: {{node: n{i + 1}}}\n" for i in range(2000)) + "default: n0\n",
        [":1901: 'n1899' leads through more than 100 nodes one within the other"],
    ),
    "a node within itself": (
        f"{A[:-5]} &x {{fallback: [*x, *x]}}\n",
        [":2: what an anchor names stands within itself"],
    ),
    "nodes that multiply": (
        "l0: &l0 {fallback: [x, y]}\n"
        + "".join(f"l{i}: &l{i} {{fallback: [*l{i - 1}, *l{i - 1}]}}\n" for i in range(1, 40)),
        [":15: more than 100000 values, those behind an alias counted each time"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), WRONG_GRAPHS.values(), ids=WRONG_GRAPHS.keys())
def test_a_mistake_in_a_graph_is_named_with_line_and_field(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert mistakes(tmp_path, text) == expected


@pytest.mark.parametrize("depth", [50, 300, 2000])
def test_nodes_nested_without_end_are_one_sentence(tmp_path: Path, depth: int) -> None:
    (sentence,) = mistakes(tmp_path, f"{A}node: {'{fallback: [x, ' * depth}y{']}' * depth}\n")
    assert "nested too deeply" in sentence


@pytest.mark.parametrize(
    "text",
    [
        f"{A}split: {{arms: {{only: 1}}}}\n",
        f"{A}split: {{arms: {{pass: 1, x@2: 2}}}}\n",
        f"{A}switch: {{field: k, cases: {{true: x, 1: y, 1.5: z, '1.0': x, yes: x, null: x}}}}\n",
        f"{A}switch:\n      field: k\n      cases: {{'': x}}\n",
        f"{A}retry: 0\n",
        "routes: {a: {}}\nnodes: {nobody: {model: x}}\n",
        "routes: {a: {node: b@2}}\nnodes: {b: {model: m, timeout: 1}}\n",
    ],
)
def test_what_is_unusual_and_right(tmp_path: Path, text: str) -> None:
    assert "a" in service.read(write(tmp_path, text)).choices


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (sentence,) = mistakes(tmp_path, "#" * 2**21)
    assert sentence == ": is larger than 1048576 bytes"


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert mistakes(tmp_path, text) == expected


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        service.read(tmp_path / "nowhere")
    assert caught.value.mistakes == (
        f"{tmp_path}/nowhere/listener.yaml: no such file; a service is a folder with listener.yaml "
        "(choose it with --service, or a model repository alone with --repository)",
    )


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "listener.yaml").mkdir()
    with pytest.raises(ConfigError) as caught:
        service.read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/listener.yaml: cannot be read: ")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (sentence,) = mistakes(tmp_path, b"\x89PNG\r\n\xff")
    assert sentence.startswith(": cannot be read: 'utf-8' codec can't decode byte")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        pytest.param(b"routes:\n  a: \x00\n", ":2: not YAML: ", id="control character"),
        pytest.param('routes:\n  a: "\\UFFFFFFFF"\n', ":2: not YAML: ", id="no such code point"),
        pytest.param('routes: {a: }\nrepository: "a\\0b"\n', ":2: 'repository' ", id="NUL in a path"),
        pytest.param('routes: {a: }\nrepository: "\\ud800"\n', ":2: 'repository' ", id="surrogate in a path"),
        pytest.param("routes: {a: }\n? [a, b]\n: c\n", ":2: ", id="a list for a key"),
    ],
)
def test_an_odd_mistake_is_one_short_line_with_its_place(tmp_path: Path, text: str | bytes, start: str) -> None:
    (sentence,) = mistakes(tmp_path, text)
    assert sentence.startswith(start)
    assert "\n" not in sentence
    assert "Node(" not in sentence


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize("opening", ["[", "{a: "], ids=["lists", "mappings"])
def test_very_deep_nesting(tmp_path: Path, opening: str, closed: bool) -> None:
    depth = 1500
    closing = {"[": "]", "{a: ": "}"}[opening] * depth if closed else ""
    (sentence,) = mistakes(tmp_path, f"routes: {opening * depth}{closing}\n")
    assert "\n" not in sentence


def _laughs(levels: int) -> str:
    lines = ["l0: &l0 lol"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def test_a_billion_laughs_are_not_expanded(tmp_path: Path) -> None:
    sentences = mistakes(tmp_path, _laughs(12) + "routes: *l11\n")
    assert sentences == [":6: more than 100000 values, those behind an alias counted each time"]


def test_a_thousand_laughs_as_a_key_are_not_expanded_either(tmp_path: Path) -> None:
    sentences = mistakes(tmp_path, _laughs(4) + "? *l3\n: x\nroutes: {a: }\n")
    assert max(map(len, sentences)) < 200


def test_a_file_that_contains_itself(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "&all\nroutes: *all\n") == [":1: what an anchor names stands within itself"]


# Anything at all


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


def read_or_complain(folder: Path) -> None:
    try:
        read = service.read(folder)
    except ConfigError as error:
        assert error.mistakes
        for sentence in error.mistakes:
            assert sentence.startswith(f"{folder}/listener.yaml:")
            assert len(sentence.splitlines()) == 1
    else:
        assert read.default in read.routes or not read.routes


_TEXT = st.text(max_size=8)
_WORDS = st.sampled_from(["a", "b", "handlers.a:A", "a/b", "", "routes"])
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | _TEXT, inner, max_size=3),
    max_leaves=6,
)
_ROUTE = st.dictionaries(st.sampled_from(["handler", "model", "modle"]), _VALUES, max_size=3)
_FILES = st.dictionaries(
    st.sampled_from(["routes", "default", "repository", "rutes"]),
    _VALUES | st.dictionaries(_WORDS | _TEXT, _ROUTE | st.none(), max_size=3),
    max_size=4,
)


@given(data=st.binary(max_size=80))
def test_arbitrary_bytes_are_a_service_or_sentences(folder: Path, data: bytes) -> None:
    read_or_complain(write(folder, data))


@given(text=st.text(st.sampled_from("routes: {}[]&*!|>%@`'\"\\#-?~,\n\t a0\u2028\x00\x85"), max_size=60))
def test_arbitrary_punctuation_is_a_service_or_sentences(folder: Path, text: str) -> None:
    read_or_complain(write(folder, text))


@given(document=_FILES | _VALUES)
def test_arbitrary_yaml_is_a_service_or_sentences(folder: Path, document: Any) -> None:
    read_or_complain(write(folder, yaml.safe_dump(document)))
