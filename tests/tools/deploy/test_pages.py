"""What docs/ shows of `listener deploy` is what it does: each command as it is typed, and what it prints."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from listener import cli, service
from listener.errors import ConfigError
from listener.tools.deploy import documents, gcloud
from listener.tools.deploy.wanted import Options, Wanted, checked
from tests.markdown import blocks
from tests.tools.deploy.fake_vertex import Vertex

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "docs" / name for name in ("deploy.md", "scaling.md", "capacity.md", "reference/command-line.md")]
#: As step 0 of docs/deploy.md has them.
NAMES = {
    "$PROJECT": "my-project",
    "$REGION": "us-central1",
    "$IMAGE": "us-central1-docker.pkg.dev/my-project/serving/listener:1",
}


def text_of(page: Path) -> str:
    found = page.read_text()
    for name, value in NAMES.items():
        found = found.replace(name, value)
    return found


def shown() -> Iterator[tuple[str, str]]:
    """Commands that begin with `listener deploy`, and what stands below them until the next one."""
    for page in PAGES:
        for block in blocks(re.sub(r"^ +", "", text_of(page), flags=re.M)):
            prompt = r"\$ " if block.language == "console" else ""
            for found in re.finditer(rf"^{prompt}(listener deploy .*)\n((?:(?!\$ ).*\n)*)", block.text, re.M):
                yield found[1], found[2] if prompt else ""


SHOWN = list(shown())
PLAIN = [command for command, _ in SHOWN]


def ran(command: str, *more: str) -> str:
    """What a command writes, failures as `listener` writes them."""
    _, *words = shlex.split(command)
    found = CliRunner().invoke(cli.cli, [*words, "--service", str(ROOT), *more])
    if isinstance(found.exception, ConfigError):
        return "".join(f"listener: {mistake}\n" for mistake in found.exception.mistakes)
    assert found.exit_code == 0, found
    return found.stderr + found.stdout


def test_the_pages_show_some() -> None:
    assert len(PLAIN) >= 5
    assert sum("--dry-run" in command for command in PLAIN) >= 1


@pytest.mark.parametrize("command", [command for command, output in SHOWN if not output.startswith("listener: ")])
def test_a_command_is_right_as_it_stands(command: str) -> None:
    assert "# Nothing was sent." in ran(command, "--dry-run")


@pytest.mark.parametrize(("command", "output"), [each for each in SHOWN if each[1].startswith("listener: ")])
def test_a_mistake_is_told_as_it_stands(command: str, output: str) -> None:
    assert ran(command, "--dry-run") == output


def test_the_end_of_the_dry_run_stands_there() -> None:
    (command,) = [command for command in PLAIN if "--dry-run" in command]
    assert ran(command).splitlines()[-1] in text_of(PAGES[0])


def normal(text: str) -> list[str]:
    """Lines without what differs from run to run, and without indentation."""
    lines = [re.sub(r"^\d\d:\d\d:\d\d |, \d+ s$|(?<=model-id=)\d+", "", line.strip()) for line in text.splitlines()]
    return [line.replace("starting deployment", "starting model server") for line in lines if line and line != "..."]


@pytest.mark.parametrize(("command", "output"), [each for each in SHOWN if "is deployed. Predictions:" in each[1]])
def test_a_deployment_prints_what_stands_there(
    vertex: Vertex, own_log: None, monkeypatch: pytest.MonkeyPatch, command: str, output: str
) -> None:
    monkeypatch.setenv("LISTENER_LOG_FORMAT", "human")
    assert normal(ran(command, "--api-endpoint", vertex.url)) == normal(output)


def wanted() -> Wanted:
    given = Options(project=NAMES["$PROJECT"], region=NAMES["$REGION"], image=NAMES["$IMAGE"])
    return checked(given, service.read(ROOT), documents.regions(documents.load("aiplatform.v1")))


def test_what_takes_it_away_is_what_the_command_says() -> None:
    page = text_of(PAGES[0])
    _, _, steps = page.partition("### Take it away\n")
    typed = [shlex.split(line) for line in blocks(steps)[0].text.splitlines()]
    said = [gcloud.undeploy(wanted(), "11"), gcloud.delete_endpoint(wanted()), gcloud.delete_model(wanted())]
    assert typed[:3] == [shlex.split(line) for line in said]


def test_every_option_has_its_row_with_its_default() -> None:
    section = PAGES[-1].read_text().partition("\n## listener deploy\n")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `--")]
    documented = set(itertools.chain.from_iterable(re.findall(r"`(--[\w-]+)", cells[1]) for cells in rows))
    offered = {name for command in cli.deploy.commands.values() for option in command.params for name in option.opts}
    assert documented == offered
    defaults = {field.name: field.default for field in dataclasses.fields(Options)}
    for cells in rows:
        name = re.findall(r"`--([\w-]+)", cells[1])[0].replace("-", "_")
        if re.fullmatch(r"`?(\d+|v1)`?", cells[2].strip()):
            assert cells[2].strip().strip("`") == str(defaults[name]), name
