"""Shapes of load, and what the documentation says of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadtest import shapes
from loadtest.asking import Mistake

ROOT = Path(__file__).parents[2]


def test_without_a_name_there_is_no_shape() -> None:
    assert shapes.stages({}) == shapes.stages({"SHAPE": "", "RAMP_USERS": "x"}) == []


def test_a_ramp_goes_up_in_steps_to_its_most() -> None:
    given = {"SHAPE": "ramp", "RAMP_USERS": "5", "RAMP_STEP_USERS": "2", "RAMP_STEP_SECONDS": "1.5"}
    assert shapes.stages(given) == [(1.5, 2), (3.0, 4), (4.5, 5)]


def test_a_spike_is_between_two_calms() -> None:
    given = {"SHAPE": "spike", "SPIKE_CALM_USERS": "3", "SPIKE_USERS": "50", "SPIKE_SECONDS": "5"}
    assert shapes.stages(given) == [(60, 3), (65, 50), (125, 3)]


def test_a_soak_is_one_long_stage() -> None:
    assert shapes.stages({"SHAPE": "soak"}) == [(14_400, 8)]


def test_an_empty_number_is_the_default() -> None:  # as docker-compose.yml may give it
    assert shapes.stages({"SHAPE": "soak", "SOAK_USERS": ""}) == [(14_400, 8)]


def test_users_change_where_a_stage_ends_and_then_it_is_over() -> None:
    shape = shapes.stages({"SHAPE": "spike"})
    found = [shapes.users_at(shape, seconds) for seconds in (0, 59.9, 60, 89.9, 90, 149.9, 150)]
    assert found == [4, 4, 64, 64, 4, 4, None]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"SHAPE": "peak"}, "SHAPE=peak: it can be ramp, spike, soak, or nothing for a steady load"),
        ({"SHAPE": "ramp", "RAMP_USERS": "many"}, "RAMP_USERS=many: a whole number of users above 0 is wanted"),
        ({"SHAPE": "ramp", "RAMP_USERS": "1.5"}, "RAMP_USERS=1.5: a whole number of users above 0 is wanted"),
        ({"SHAPE": "ramp", "RAMP_STEP_USERS": "0"}, "RAMP_STEP_USERS=0: a whole number of users above 0 is wanted"),
        ({"SHAPE": "soak", "SOAK_SECONDS": "-1"}, "SOAK_SECONDS=-1: a number of seconds above 0 is wanted"),
        ({"SHAPE": "soak", "SOAK_SECONDS": "inf"}, "SOAK_SECONDS=inf: a number of seconds above 0 is wanted"),
        ({"SHAPE": "soak", "SOAK_SECONDS": "nan"}, "SOAK_SECONDS=nan: a number of seconds above 0 is wanted"),
    ],
)
def test_a_wrong_number_is_told_in_one_sentence(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(Mistake) as caught:
        shapes.stages(given)
    assert str(caught.value) == sentence


def test_each_number_stands_in_the_table_with_its_default() -> None:
    page = (ROOT / "docs/load-testing.md").read_text()
    documented = {name: int(value) for name, value in re.findall(r"`([A-Z_]+)` \((\d+)\)", page)}
    assert documented == shapes.NUMBERS
