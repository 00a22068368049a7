"""`python -m benchmarks.overload`: what a listener still answers when it is asked ten times as much as it can."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import click

from benchmarks.__main__ import WORK, progress
from benchmarks.overload import report, rounds
from benchmarks.processes import DESCRIPTORS
from listener.process import allow_descriptors

_CASES = {case.service: case for case in (rounds.SLOW, rounds.OWN)}
_FILE = click.Path(path_type=Path, dir_okay=False)


def _factors(_context: click.Context, _option: click.Parameter, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter("is not a list of numbers such as 1,1.3") from None


def _settings(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    if wrong := [one for one in given if "=" not in one]:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE")
    return dict(one.split("=", 1) for one in given)


@click.command()
@click.option("--only", type=click.Choice(sorted(_CASES)), help="This service alone.")
@click.option("--rounds", "times", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--seconds", type=click.FloatRange(1), default=2.5, show_default=True, help="Of a measurement; twice that at 90 %."
)
@click.option(
    "--factors",
    callback=_factors,
    default="0.8",
    show_default=True,
    metavar="0.8,0.5,2",
    help="Permits as multiples of capacity x p99 at 90 %; the second and further ones get two rows.",
)
@click.option(
    "--set",
    "settings",
    callback=_settings,
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of listeners with permits.",
)
@click.option("--json", "json_file", type=_FILE, envvar="OVERLOAD_JSON", help="Write every row of every round there.")
def main(
    only: str | None,
    times: int,
    seconds: float,
    factors: list[float],
    settings: dict[str, str],
    json_file: Path | None,
) -> None:
    """Measures goodput, latency and memory of a listener under more load than it can carry."""
    allow_descriptors(DESCRIPTORS)
    work = WORK / "overload"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    cases = [_CASES[only]] if only else [*_CASES.values()]
    results = rounds.run(rounds.Options(times, seconds, factors, settings, work), cases, progress())
    click.echo(f"\n{report.tables(results, cases)}")
    if json_file:
        json_file.write_text(json.dumps(report.rows(results), indent=1) + "\n")
    wrong = any(row.figures.wrong for found in results.rows.values() for row in found)
    sys.exit(1 if wrong or results.failed else 0)


if __name__ == "__main__":
    main()
