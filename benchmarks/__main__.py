"""`python -m benchmarks quick|full`: what `make bench-quick` and `make bench` run."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import machine, plot, report, rounds, servers, wrk
from benchmarks.processes import DESCRIPTORS
from benchmarks.results import Results
from benchmarks.rounds import Plan
from listener.process import allow_descriptors

HERE = Path(__file__).parent
WORK, PAGE, PLOT = HERE / ".work", HERE / "RESULTS.md", HERE / "ratios.svg"
_FILE = click.Path(path_type=Path, dir_okay=False)


def _list(_context: click.Context, _option: click.Parameter, text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text else None


def _numbers(_context: click.Context, _option: click.Parameter, text: str | None) -> list[int] | None:
    try:
        return [int(part) for part in text.split(",")] if text else None
    except ValueError:
        raise click.BadParameter("is not a list of whole numbers such as 1,8") from None


@click.command()
@click.argument("mode", type=click.Choice(["quick", "full"]))
@click.option("--only", callback=_list, metavar="W1,W3", help="These loads alone.")
@click.option("--connections", callback=_numbers, metavar="1,8", help="These numbers of connections, for every load.")
@click.option("--servers", "names", callback=_list, metavar="triton,listener", help="These servers alone.")
@click.option("--rounds", "times", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), help="Of a measurement; whole ones. Default: 3 quick, 5 full.")
@click.option("--warm-up", type=click.FloatRange(1), default=1, show_default=True, help="Seconds of load before it.")
@click.option("--alone/--not-alone", default=None, help="The listener's idle CPU, memory, start. Default: full only.")
@click.option("--json", "json_file", type=_FILE, envvar="BENCH_JSON", help="Write one row per cell and server there.")
@click.option("--results", type=_FILE, help="Write the page there. Default: RESULTS.md, for a full run of everything.")
def main(mode: str, json_file: Path | None, results: Path | None, **given: Any) -> None:
    """Measures the listener against Triton's own Vertex frontend, and against other servers."""
    whole = mode == "full" and not any(given[name] for name in ("only", "connections", "names"))
    page = results or (PAGE if whole else None)
    try:
        wrk.program()
    except wrk.Missing as error:
        sys.exit(str(error))
    allow_descriptors(DESCRIPTORS)
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    found = rounds.run(_plan(mode, given), progress())
    click.echo(f"\n{report.tables(found)}")
    if json_file:
        json_file.write_text(json.dumps(found.rows(), indent=1) + "\n")
    if page:
        _write(found, page)


def _plan(mode: str, given: Mapping[str, Any]) -> Plan:
    quick = mode == "quick"
    cells: Mapping[str, Sequence[int]] = rounds.QUICK if quick else rounds.FULL
    names = given["names"] or ([servers.ANCHOR, servers.LISTENER] if quick else [*servers.EVERY])
    if not given["names"]:
        names.insert(1, servers.PER_CORE)
    if unknown := [name for name in names if not servers.exists(name)]:
        raise click.BadParameter(f"no server {unknown[0]!r}; there are {', '.join(servers.EVERY)}, {servers.PER_CORE}")
    if unknown := [load for load in given["only"] or () if load not in cells]:
        raise click.BadParameter(f"no load {unknown[0]!r}; there are {', '.join(cells)}")
    return Plan(
        cells={load: given["connections"] or cells[load] for load in given["only"] or cells},
        servers=names,
        rounds=given["times"],
        seconds=given["seconds"] or (3.0 if quick else 5.0),
        warm_up=given["warm_up"],
        alone=not quick if given["alone"] is None else given["alone"],
        work=WORK,
    )


def _write(found: Results, page: Path) -> None:
    drawn: Path | None = None
    if plot.can_draw():
        drawn = PLOT if page == PAGE else page.with_suffix(".svg")
        plot.draw(found, drawn)
    else:
        click.echo("no plot: matplotlib is missing (extra `bench`)", err=True)
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    page.write_text(report.page(found, machine.describe(WORK), command, drawn.name if drawn else None))
    click.echo(f"\nwritten: {page}")


def progress() -> Callable[[str], None]:
    """Lines on stderr, so that stdout holds the tables alone."""
    begin = time.monotonic()
    return lambda text: click.echo(f"{time.monotonic() - begin:6.0f} s  {text}", err=True)


if __name__ == "__main__":
    main()
