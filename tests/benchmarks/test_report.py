from __future__ import annotations

from pathlib import Path

from benchmarks import plot, report
from benchmarks.results import Key
from tests.benchmarks.figures import results


def test_a_table_is_markdown_with_columns_below_each_other() -> None:
    assert report.table(("a", "long head"), [("wide cell", "1"), ("b", "2")]).splitlines() == [
        "| a         | long head |",
        "|-----------|-----------|",
        "| wide cell | 1         |",
        "| b         | 2         |",
    ]


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_tables_show_goals_cells_and_failures() -> None:
    made = results(triton=[100, 100, 100], listener=[80, 95, 110])
    made.fail(Key("W3", 1, "listener"), "body 0 was answered 400")
    made.left_out["cpr"] = "cpr cannot be installed: no network"
    lines = squeezed(report.tables(made))
    assert "| W1 at 8 | >= 0.9 | 0.95 [0.80, 1.10] | met |" in lines
    assert "| W3 at 1 | >= 1.8 | - | **failed** |" in lines
    assert "| W1 | 8 | triton | 100 | - | 10.00 | 30.00 | - | 100 |" in lines
    assert "| W1 | 8 | listener | 95 | 0.95 [0.80, 1.10] | 10.53 | 31.58 | 40 | 100 |" in lines
    assert "| W3 | 1 | listener | **failed** | - | - | - | - | - |" in lines
    assert "* W3 at 1, listener failed: body 0 was answered 400" in lines
    assert "* left out: cpr cannot be installed: no network" in lines
    assert any(line.startswith("Goals not measured: W1 at 1; W1 at 32;") for line in lines)


def test_the_page_says_where_and_how_it_was_measured() -> None:
    page = report.page(results(triton=[100]), {"processor": "Z80, 1 cores", "wrk": ""}, "make bench", "ratios.svg")
    lines = page.splitlines()
    assert {"* processor: Z80, 1 cores", "* command: `make bench`"} <= set(lines)
    assert "* W1: one instance of 16 numbers, JSON" in lines
    assert "](ratios.svg)" in page
    assert "* wrk" not in page


def test_ratios_are_drawn_but_not_those_of_the_anchors() -> None:
    made = results(triton=[100], listener=[150], obvious=[30])
    assert plot.ratios(made) == {"listener": {("W1", 8): 1.5}, "obvious": {("W1", 8): 0.3}}


def test_the_same_figures_give_the_same_picture(tmp_path: Path) -> None:
    made = results(triton=[100], listener=[150], obvious=[30])
    for name in ("a.svg", "b.svg"):
        plot.draw(made, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "<svg" in (tmp_path / "a.svg").read_text()
