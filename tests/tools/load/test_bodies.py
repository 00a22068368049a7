"""What is sent, and what is wrong before anything is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from listener import cli, settings
from listener.errors import ConfigError
from listener.tools.load import asked, bodies
from loadtest import asking


def test_lines_are_bodies(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"instances": [1]}\n\n{"instances": ["é"]}\r\n')
    found = bodies.of_file(file)
    assert found.texts == ['{"instances": [1]}', '{"instances": ["é"]}']
    assert found.places == [f"{file}:1", f"{file}:3"]
    assert found.words == "2 from a.jsonl"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "{}: holds no request"),
        ("\n \n", "{}: holds no request"),
        ('{"instances": [1]}\n{"instances"\n', "{}:2: no JSON: "),
        ("[1]\n", "{}:1: no request; an object such as"),
        (b"\xff\n", "{}:1: no JSON: "),
    ],
)
def test_a_line_that_is_none_is_named(content: str | bytes, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as told:
        bodies.of_file(file)
    (said,) = told.value.mistakes
    assert said.startswith(sentence.format(file))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^/nowhere/a.jsonl: cannot be read: No such file"):
        bodies.of_file(Path("/nowhere/a.jsonl"))


HANDLERS = """
from listener import Handler
class A(Handler):
    example = {"picture": b"ab", "sizes": [1, (2, b"c")]}
class B(Handler):
    example = 3
class C(Handler):
    pass
"""


def service(folder: Path, name: str, routes: str, code: str = HANDLERS) -> Path:
    (folder / "load_handlers").mkdir()
    (folder / "load_handlers" / f"{name}.py").write_text(code)
    (folder / "triton_repo").mkdir()
    (folder / "listener.yaml").write_text(f"repository: triton_repo\ndefault: a\nroutes:\n{routes}")
    return folder


def test_examples_are_bodies_as_callers_send_them(tmp_path: Path) -> None:
    routes = (
        "".join(f"  {one.lower()}: {{handler: 'load_handlers.one:{one}'}}\n" for one in "ABC") + "  d: {model: d}\n"
    )
    found = bodies.of_service(settings.read({}, service=str(service(tmp_path, "one", routes))))
    assert [json.loads(text) for text in found.texts] == [
        {"instances": [{"picture": {"b64": "YWI="}, "sizes": [1, [2, {"b64": "Yw=="}]]}]},
        {"instances": [3], "parameters": {"model": "b"}},
    ]
    assert found.words == "the example of a, b"


def test_the_command_prints_them_one_a_line(tmp_path: Path) -> None:
    routes = "  a: {handler: 'load_handlers.three:A'}\n  b: {handler: 'load_handlers.three:B'}\n"
    folder = service(tmp_path, "three", routes)
    done = CliRunner().invoke(cli.cli, ["examples", "--service", str(folder)])
    assert done.exit_code == 0
    file = tmp_path / "bodies.jsonl"
    file.write_text(done.stdout)
    sent = bodies.of_file(file).texts
    assert sent == bodies.of_service(settings.read({}, service=str(folder))).texts
    assert [body.instances for body in asking.read(file)] == [1, 1], "Locust takes them as well"


def test_handlers_without_an_example_and_a_folder_without_a_service_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"listener.yaml: no such file"):
        bodies.of_service(settings.read({}, service=str(tmp_path)))
    folder = service(tmp_path, "two", "  a: {handler: 'load_handlers.two:C'}\n")
    with pytest.raises(ConfigError, match=r"listener.yaml: no handler has an example; give one"):
        bodies.of_service(settings.read({}, service=str(folder)))


def test_who_asks_for_a_load_without_them_is_told_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.cli, ["load", "http://127.0.0.1:1/predict"])
    assert done.exit_code == 2
    assert re.search(r"listener.yaml: no such file.*; or name bodies with --data FILE.jsonl$", done.output.strip())


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://h:1", "http://h:1: has no path; http://h:1/predict"),
        ("https://h/", "https://h/: has no path; https://h/predict"),
        ("h/predict", "no URL"),
        ("ftp://h/p", "no URL"),
        ("http://[::1/p", "no URL"),
        ("http://h:99999/p", "no URL"),
        ("http://h/a b", "escaped"),
        ("http://h/é", "escaped"),
    ],
)
def test_what_is_no_url_is_told(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        asked.checked(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/predict", "https://h/v1/endpoints/1:predict", "http://[::1]:1/p?a=b"]
)
def test_what_is_one_stays(url: str) -> None:
    assert asked.checked(url) == url


def test_headers_are_name_and_value() -> None:
    assert asked.headers(["A:b", "X-Key:  c:d "]) == {"A": "b", "X-Key": "c:d"}


@pytest.mark.parametrize("header", ["a", ":b", "a b: c", "a: b\r\nc: d", "Content-Length: 3", "host: x", "a: é"])
def test_what_is_no_header_is_told(header: str) -> None:
    with pytest.raises(ConfigError, match=r"^--header"):
        asked.headers([header])


@pytest.mark.parametrize(
    "url", ["http://x.googleapis.com/p", "https://googleapis.com.example.org/p", "http://127.0.0.1/p"]
)
def test_nobody_but_google_is_sent_a_token(url: str) -> None:
    assert asked.Token(url, wanted=True).headers() == {}


def test_a_token_can_be_done_without() -> None:
    assert asked.Token("https://eu.googleapis.com/p", wanted=False).headers() == {}
