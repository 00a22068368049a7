"""The steps' figures come from requests that were really answered."""

from __future__ import annotations

import re

import numpy as np
import orjson
import pytest
import uvloop
from click.testing import CliRunner

from benchmarks import loads, steps


def test_every_step_has_a_figure_for_each_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "spare_the_collector", lambda: None)  # which is for a process's lifetime
    done = CliRunner().invoke(steps.main, ["--count", "100"])
    assert done.exit_code == 0, done.output
    figures = re.findall(r"^\| (\w[^|]*?) +\| +([\d.]+) +\| +([\d.]+) +\|$", done.output, re.MULTILINE)
    assert [name for name, *_ in figures][-2:] == ["a whole request, 1 at a time", "a whole request, 32 at a time"]
    assert len(figures) == 9
    assert all(float(figure) > 0 for _, *both in figures for figure in both)


@pytest.mark.parametrize("load", steps.LOADS)
def test_what_is_measured_is_a_right_answer(load: str) -> None:
    """The echo gives the tensor back, so the predictions have to be the instances."""
    answers: list[bytes] = []
    body = loads.by_name(load).bodies("instances")[0].data
    uvloop.run(steps.serve([body], 3, 6, answers.append))
    assert len(answers) == 6
    for answer in answers:
        head, _, predictions = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        np.testing.assert_allclose(orjson.loads(predictions)["predictions"], loads.by_name(load).inputs[0], rtol=1e-6)
