"""The documentation and the code say the same: settings, keys, statuses, commands, dependencies, links."""

from __future__ import annotations

import asyncio
import configparser
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from aiohttp import web

from listener import app, cli, errors, middleware, service, settings
from listener.contract import media, vertex_triton
from listener.errors import ConfigError, ListenerError

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
ADR = ROOT / "docs" / "adr"
FIELDS = {field.name: field for field in dataclasses.fields(settings.Settings)}
PAGES = sorted({*ROOT.glob("README.md"), *ROOT.glob("deploy/README.md"), *(ROOT / "docs").rglob("*.md")})
SOURCES = sorted((ROOT / "listener").rglob("*.py"))


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    level = heading.partition(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", page.read_text(), re.M | re.S)
    assert found, f"{relative(page)} has no heading {heading!r}"
    return found[1]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of the tables in a text, without heads."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if cells and cells[0].startswith(("`", "4", "5")):
            yield cells


def words(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Settings


def test_every_setting_has_its_row_with_its_default() -> None:
    documented = {words(cells[0])[0]: cells[1] for cells in rows(section(REFERENCE / "settings.md", "## All settings"))}
    assert documented == {settings.env_name(field): shown(field) for field in FIELDS.values()}


def shown(field: dataclasses.Field[Any]) -> str:
    return f"`{text}`" if (text := settings.as_text(field.default)) else "none"


def test_the_options_of_each_command_are_those_of_the_table() -> None:
    text = section(REFERENCE / "settings.md", "## Which command takes what")
    commands = words(next(line for line in text.splitlines() if line.startswith("| Setting")))
    documented = {
        (command, option)
        for cells in rows(text)
        for option in words(cells[0])
        for command, mark in zip(commands, cells[1:], strict=True)
        if mark
    }
    assert documented == {
        (name, option)
        for name, command in cli.cli.commands.items()
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name in FIELDS
        for option in [*parameter.opts, *parameter.secondary_opts]
    }


# Routes


def test_the_paths_that_are_served_are_those_of_the_contract() -> None:
    documented = {
        (method, path)
        for cells in rows(section(REFERENCE / "contract.md", "## Routes"))
        for path in words(cells[0])
        for path in ([path.replace("[/versions/V]", ""), re.sub(r"[][]", "", path)] if "[" in path else [path])
        for method in (["GET", "HEAD"] if cells[1] == "GET" else [cells[1]])
    }
    served = {
        (route.method, re.sub(r"\{(\w)\w*\}", lambda name: name[1].upper(), route.resource.canonical))
        for route in asyncio.run(_routes())
        if route.resource
    }
    assert served == documented


async def _routes() -> list[web.AbstractRoute]:
    return list(app.make(app.Listener(settings.read({}))).router.routes())


# Headers and media types

#: Code that reads requests.
READERS = [*(ROOT / "listener" / "contract").glob("*.py"), *(ROOT / "listener" / "endpoints").glob("*.py")] + [
    ROOT / "listener" / f"{name}.py" for name in ("middleware", "heads", "fallback", "routing", "fastpath")
]


def headers_read() -> set[str]:
    """Names that stand in `headers.get("name")`, `headers["name"]` or `"name" in headers`."""
    named = r"[\"']([A-Za-z-]+)[\"']"
    forms = (rf"headers\.get(?:all)?\({named}", rf"headers\[{named}\]", rf"{named} (?:not )?in (?:request\.)?headers")
    found = {name.lower() for file in READERS for form in forms for name in re.findall(form, file.read_text())}
    return found | {media.HEADER_LENGTH, vertex_triton.REDIRECT, middleware.REQUEST_ID_HEADER.lower()}


def test_every_header_that_is_read_is_in_the_contract() -> None:
    text = (REFERENCE / "contract.md").read_text().lower()
    read = headers_read()
    assert {"accept", "accept-encoding", "content-type", "content-encoding", "expect"} <= read
    # how a message is framed is HTTP's business
    framing = {"host", "connection", "content-length", "allow"}
    assert {name for name in read - framing if name not in text} == set()


def test_every_media_type_is_in_the_contract() -> None:
    text = (REFERENCE / "contract.md").read_text()
    assert {kind for kind in (media.JSON, media.RAW, media.NPY, media.EVENTS) if f"`{kind}" not in text} == {
        media.EVENTS
    }
    assert f"Accept: {media.EVENTS}" in text


# listener.yaml


def known_keys(folder: Path) -> set[str]:
    """The keys that listener/service.py reads, as it lists them itself when it meets another one."""
    (folder / service.FILE).write_text("qqqq: 1\nroutes:\n  NAME:\n    qqqq: 1\n")
    with pytest.raises(ConfigError) as caught:
        service.read(folder)
    keys = set()
    for sentence in caught.value.mistakes:
        found = re.search(r"unknown key 'qqqq' in (the file|routes\.NAME); known are (.*)", sentence)
        assert found, sentence
        prefix = "" if found[1] == "the file" else "routes.NAME."
        keys |= {prefix + key for key in found[2].split(", ")}
    return keys


def test_every_key_of_listener_yaml_has_its_row(tmp_path: Path) -> None:
    documented = {words(cells[0])[0] for cells in rows(section(REFERENCE / "listener-yaml.md", "## Keys"))}
    assert documented == known_keys(tmp_path)


# Statuses


def test_every_error_has_its_row_in_the_contract() -> None:
    table = [
        (int(status), *words(code), *words(name), int(retry) if retry else None)
        for status, code, name, _, retry in rows(section(REFERENCE / "contract.md", "## Status codes"))
    ]
    family = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ListenerError)]
    in_the_code = {(kind.status, kind.code, kind.__name__, kind.retry_after) for kind in family}
    assert set(table) == in_the_code
    assert len(table) == len(in_the_code)


# Commands


def test_every_command_has_its_heading() -> None:
    headings = re.findall(r"^## listener (\S+)$", (REFERENCE / "command-line.md").read_text(), re.M)
    assert sorted(headings) == sorted([*cli.cli.commands, "--version"])


# Dependencies


def dependencies() -> set[str]:
    """Names with their extras, as `tritonclient[http]`, of everything that setup.cfg may install."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    found = (re.match(r"[\w.-]+(\[[\w,.-]+\])?", line) for text in lists for line in text.split("\n"))
    return {match[0] for match in found if match}


def test_every_dependency_has_one_line_of_why() -> None:
    lines = re.findall(r"^\* `([^`]+)`: \S.*$", (ADR / "0002-dependencies.md").read_text(), re.M)
    assert sorted(lines) == sorted(dependencies())


# Decisions


def test_decisions_are_numbered_in_order() -> None:
    pages = sorted(ADR.glob("*.md"))
    assert [page.name[:5] for page in pages] == [f"{number:04}-" for number in range(1, len(pages) + 1)]
    for number, page in enumerate(pages, 1):
        assert page.read_text().startswith(f"# {number}. "), relative(page)


# Claims


def test_every_claim_of_security_names_a_test_that_is_there() -> None:
    page = ROOT / "docs/security.md"
    claims = [line for line in section(page, "## What is checked").splitlines() if line.startswith("| ")][1:]
    assert len(claims) > 20
    for claim in claims:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", claim)
        assert named, claim
        for file, test in named:
            assert re.search(rf"^(?:async )?def {test}\(", (ROOT / file).read_text(), re.M), f"{file}::{test}"


# Links


def prose(page: Path) -> str:
    """A page without its blocks of code, in which neither links nor headings stand."""
    return re.sub(r"^ *(```|~~~).*?^ *\1", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^()\s]+)\)", prose(page)):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == [], f"{relative(page)} links to what is not there"


def mentioned() -> dict[str, set[str]]:
    """Each page under docs/ that the package's sources speak of, and which of them do."""
    pages: dict[str, set[str]] = {}
    for source in SOURCES:
        for path in re.findall(r"(?<![\w./-])docs/[\w./-]+\.md\b", source.read_text()):
            pages.setdefault(path, set()).add(relative(source))
    return pages


def test_every_page_that_the_sources_speak_of_exists() -> None:
    missing = {path: sources for path, sources in mentioned().items() if not (ROOT / path).is_file()}
    assert missing == {}


def test_every_section_of_the_contract_that_the_sources_speak_of_exists() -> None:
    headings = set(re.findall(r"^## (.+)$", prose(REFERENCE / "contract.md"), re.M))
    missing = {}
    for source in SOURCES:
        for tail in re.findall(r'docs/reference/contract\.md((?:[,\s]|section|and|"[^"\n]+")*)', source.read_text()):
            if absent := set(re.findall(r'"([^"]+)"', tail)) - headings:
                missing[relative(source)] = absent
    assert missing == {}
