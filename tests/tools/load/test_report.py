"""What a run says: the sentence, the page, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from listener.errors import ConfigError
from listener.tools.load import outcome, plots, report
from listener.tools.load.exposition import Between
from listener.tools.load.figures import Figures
from listener.tools.load.observing import Seen
from listener.tools.load.outcome import Outcome, Step
from listener.tools.load.plots import Axes, Line, Part
from listener.tools.load.search import Objective

SVG = "{http://www.w3.org/2000/svg}"


def step(rate: float, p99: float, errors: Mapping[str, int] | None = None, seen: Between | None = None) -> Step:
    figures = Figures(
        2.0,
        int(rate * 2),
        rate,
        rate,
        p99 / 3,
        p99 / 5,
        p99 / 2,
        p99,
        p99 * 1.5,
        p99 * 2,
        errors or {},
        1.5,
        0.25,
        at=rate,
    )
    metrics = seen or Between(triton={"model": 1.25, "waits in Triton": 0.5}, batch=2.5, machine=0.5)
    return Step(rate, figures, Seen(metrics, 0.9))


@pytest.fixture
def run() -> Outcome:
    steps = [
        step(500, 10),
        step(1000, 20),
        step(2000, 400, {"status 503": 40, "timeout": 4}),
        step(1240, 48.5),
        step(1310, 82),
    ]
    return Outcome(
        "http://h/<predict>", "the example of <a>", "2026-11-27 08:00:00 UTC", Objective(50), False, steps,
        where={"Generator": "one & only"}, cpu_of="this machine", metrics="http://h:8003/metrics", is_here=True,
    )  # fmt: skip


def parsed(page: str) -> ElementTree.Element:
    """The page as XML, which HTML of ours is but for its first line."""
    return ElementTree.fromstring(page.partition("\n")[2])


def words(page: str) -> str:
    return " ".join(" ".join(parsed(page).itertext()).split())


def test_the_sentence_says_the_highest_rate_that_keeps_it(run: Outcome) -> None:
    assert outcome.headline(run) == "Keeps p99 under 50 ms up to 1,240 requests/s"
    assert run.best is run.steps[3]
    assert run.beyond is run.steps[4]
    assert outcome.details(run) == [
        "The next rate that was tried, 1,310/s, came to p99 82.0 ms.",
        "At 1,240/s the CPUs (this machine) were 90% busy.",
    ]


def test_the_sentence_says_at_least_where_the_generator_or_the_time_was_the_limit(run: Outcome) -> None:
    slow = replace(run.steps[4], figures=replace(run.steps[4].figures, cpu=0.95))
    limited = replace(run, steps=[*run.steps[:4], slow])
    assert outcome.headline(limited) == "Keeps p99 under 50 ms up to at least 1,240 requests/s"
    fast, why = outcome.generator(limited)
    assert not fast
    assert why.startswith(
        "The generator was too slow at 1,310/s: its requests left up to 1.5 ms late (p99), and it used 95%"
    )
    ramp = replace(run, steps=run.steps[:2])
    assert outcome.headline(ramp) == "Keeps p99 under 50 ms up to at least 1,000 requests/s"
    assert "a longer --duration tries higher ones" in " ".join(outcome.details(ramp))


def test_the_generator_is_said_to_have_been_fast_enough_with_its_figures(run: Outcome) -> None:
    fast, why = outcome.generator(run)
    assert fast
    assert why.startswith("The generator was fast enough: its requests left up to 1.5 ms late (p99), and it used 25%")


def test_a_generator_that_was_late_is_told_though_that_changes_no_verdict(run: Outcome) -> None:
    best = replace(run.steps[3], figures=replace(run.steps[3].figures, lag_p99=12.0))
    late = replace(run, steps=[*run.steps[:3], best, run.steps[4]])
    fast, why = outcome.generator(late)
    assert not fast
    assert why.startswith("The generator did not get its CPU in time: its requests left up to 12.0 ms late (p99)")
    assert outcome.headline(late) == outcome.headline(run)


def test_the_sentence_where_nothing_keeps_it(run: Outcome) -> None:
    never = replace(run, steps=[step(10, 300), step(5, 200)])
    assert outcome.headline(never) == "Keeps p99 under 50 ms at no rate: 5 requests/s came to p99 200.0 ms"
    assert not never.kept


@pytest.mark.parametrize(("p99", "errors", "says"), [
    (20, {}, "Keeps p99 under 50 ms at 100 requests/s: 20.0 ms"),
    (80, {}, "Does not keep p99 under 50 ms at 100 requests/s: p99 80.0 ms"),
    (20, {"status 503": 20}, "Does not keep p99 under 50 ms at 100 requests/s: 10.00% errors"),
])  # fmt: skip
def test_the_sentence_of_a_rate_that_was_held(run: Outcome, p99: float, errors: dict[str, int], says: str) -> None:
    held = replace(run, held=True, steps=[step(100, p99, errors)], slices=[step(100, p99).figures] * 3)
    assert outcome.headline(held) == says
    assert says in words(report.page(held))


def test_the_page_is_one_whole_file_that_says_all_of_it(run: Outcome) -> None:
    page = report.page(run)
    drawn = parsed(page).findall(f".//{SVG}svg")
    assert len(drawn) == 6
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="|url\(|@import', page) == []
    assert "prefers-color-scheme: dark" in page
    text = words(page)
    for said in (
        outcome.headline(run), *outcome.details(run), outcome.generator(run)[1], "POST http://h/<predict>",
        "the example of <a>", "one & only", "40 status 503 4 timeout", "kept up to 1,240/s",
    ):  # fmt: skip
        assert said in text


def test_texts_from_elsewhere_are_escaped(run: Outcome) -> None:
    assert "<predict>" not in report.page(run)
    page = report.page(replace(run, bodies="<q>", cpu_of="<q>", steps=[step(1, 2, {"<q>": 1}), step(2, 3)]))
    assert "&lt;q&gt;" in page
    assert "<q>" not in page


def test_a_plot_is_left_out_with_the_reason(run: Outcome) -> None:
    bare = replace(run, metrics="", cpu_of="", steps=[replace(one, seen=Seen()) for one in run.steps])
    page = report.page(bare)
    assert len(parsed(page).findall(f".//{SVG}svg")) == 3
    text = words(page)
    assert text.count("no metrics were found. `listener up --metrics-port 8003` has some") == 2
    assert "Unknown: the target is elsewhere, and has no metrics that tell." in text


def test_the_phases_are_the_listeners_where_it_tells_them(run: Outcome) -> None:
    known = Between(phases={"queue": 1.0, "triton": 2.0}, rows_per_call=3.0, gpus={"GPU 0": 0.95})
    text = words(report.page(replace(run, steps=[step(100, 10, seen=known), step(200, 20, seen=known)])))
    for said in (
        "Means of a request, by the listener's own metrics.",
        "queue",
        "the rest: network",
        "GPU 0",
        "rows, mean",
    ):
        assert said in text
    assert "At 200/s GPU 0 was 95% busy and the CPUs (this machine) were 90% busy." in text


def test_two_runs_stand_side_by_side(run: Outcome) -> None:
    before = replace(run, steps=[step(500, 10), step(620, 45), step(700, 90)], started="yesterday")
    text = words(report.page(run, before))
    assert "Highest rate that keeps it, requests/s 620 1,240 +100%" in text
    assert "p99 before" in text
    assert "yesterday" in text


def test_json_can_be_read_again(run: Outcome, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(outcome.as_json(run))
    again = outcome.read(file)
    assert report.page(again) == report.page(run)
    document = json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert document["highest_rate"] == 1240
    assert [one["kept"] for one in document["steps"]] == [True, True, False, True, False]
    assert document["steps"][0]["seen"]["rows_per_call"] is None
    assert math.isnan(again.steps[0].seen.metrics.rows_per_call)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"form": "listener load 1"}', '{"form": "other"}'])
def test_a_file_that_is_no_run_is_told(content: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"run.json: is no file of `listener load --json`"):
        outcome.read(file)


def test_csv_has_a_line_for_each_step(run: Outcome) -> None:
    rows = list(csv.DictReader(io.StringIO(outcome.as_csv(run))))
    assert [(row["rate"], row["kept"], row["p99"]) for row in rows[:2]] == [("500", "1", "10"), ("1000", "1", "20")]
    assert rows[2]["errors"] == "status 503: 40; timeout: 4"
    assert rows[2]["failed"] == "44"


def test_an_api_key_does_not_get_into_the_report() -> None:
    assert outcome.without_query("http://h/p?key=secret") == "http://h/p"


# Plots


def test_points_lie_where_their_values_say() -> None:
    axes = Axes("x", "y", log=True, limit=(50, "limit"))
    drawn = plots.lines([Line("a", [(1, 1), (2, 10), (3, 100)], "c0")], axes, (500, 300), "t")
    points = re.findall(r'<circle class="c0" cx="([\d.]+)" cy="([\d.]+)"', drawn)
    xs, ys = zip(*((float(x), float(y)) for x, y in points), strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)  # a decade is a decade
    (limit,) = re.findall(r'class="limit" x1="[\d.]+" x2="[\d.]+" y1="([\d.]+)"', drawn)
    assert ys[2] < float(limit) < ys[1]


def test_what_is_unknown_is_not_drawn() -> None:
    axes = Axes("x", "y")
    assert plots.lines([Line("a", [(1, math.nan)], "c0")], axes, (500, 300), "t") == ""
    assert plots.lines([Line("a", [(1, math.nan), (2, 3.0)], "c0")], axes, (500, 300), "t").count("<circle") == 1


def test_bars_are_stacked() -> None:
    drawn = plots.bars(["1", "2"], [Part("a", [1, 2], "c0"), Part("b", [3, 0], "c1")], Axes("x", "y"), (500, 300), "t")
    found = [
        (float(y), float(tall)) for y, tall in re.findall(r'<rect [^>]* y="([\d.]+)" [^>]*height="([\d.]+)"', drawn)
    ]
    (a, tall_a), (b, tall_b) = found[:2]
    assert tall_b == pytest.approx(3 * tall_a, abs=0.3)
    assert b + tall_b == pytest.approx(a, abs=0.2)
