"""The sample service, end to end: pictures in, digits out."""

from __future__ import annotations

import base64
import subprocess
from typing import Any

import numpy as np
import pytest

from tests.integration.stack import ROOT, Stack
from tools.digits_data import encoded, load_split, render
from tools.draw_digits import draw

pytestmark = pytest.mark.triton

PICTURES = sorted((ROOT / "examples").glob("digit-*"))


def wrapped(picture: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(picture).decode()}


def digits(stack: Stack, instances: list[Any], batch: int) -> list[int]:
    """Predictions in batches of a size, in the order of the instances."""
    found: list[int] = []
    for start in range(0, len(instances), batch):
        answer = stack.predict(instances[start : start + batch])
        assert answer.status_code == 200, answer.text
        found += [prediction["digit"] for prediction in answer.json()["predictions"]]
    return found


def test_there_are_ten_sample_pictures() -> None:
    assert [path.stem for path in PICTURES] == [f"digit-{n}" for n in range(10)]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_curl_gets_the_digit_of_a_sample_picture(sample: Stack, picture: Any) -> None:
    script = f"""printf '{{"instances": [{{"b64": "%s"}}]}}' "$(base64 < {picture} | tr -d '\\n')" |
        curl -sS -f {sample.url}/predict -H 'Content-Type: application/json' -d @-"""
    answer = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True).stdout
    assert f'"digit":{picture.stem[-1]}' in answer


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_held_out_pictures_are_recognised_in_order(sample: Stack, batch: int) -> None:
    """200 pictures that the model never saw, 32 to 400 px, PNG and JPEG, inverted or not: 95 % right, order kept.

    Order: neighbours differ in their digit, so that a shifted or shuffled batch could not score.
    """
    split, rng = load_split(), np.random.default_rng(20)
    order = rng.permutation(len(split.held_out))[:200]
    found = digits(sample, [wrapped(render(split.held_out[i], rng)) for i in order], batch)
    right = np.mean(np.array(found) == split.held_out_digits[order])
    assert right >= 0.95


def check_hand_drawn(stack: Stack, count: int, seed: int) -> None:
    """Polyline digits: 90 % right, no digit under 70 %."""
    rng = np.random.default_rng(seed)
    drawn = [draw(rng, n % 10) for n in range(count)]
    found = np.array(digits(stack, [wrapped(encoded(picture)) for picture, _ in drawn], 50))
    wanted = np.array([digit for _, digit in drawn])
    per_digit = {n: float(np.mean(found[wanted == n] == n)) for n in range(10)}
    assert np.mean(found == wanted) >= 0.9, per_digit
    assert min(per_digit.values()) >= 0.7, per_digit


def test_hand_drawn_digits_are_recognised(sample: Stack) -> None:
    check_hand_drawn(sample, 200, seed=7)


def test_a_list_of_64_numbers_is_an_instance_too(sample: Stack) -> None:
    split = load_split()
    found = digits(sample, [row.tolist() for row in split.held_out], 64)
    assert np.mean(np.array(found) == split.held_out_digits) >= 0.97


def test_predictions_are_plain_and_add_up(sample: Stack) -> None:
    answer = sample.predict([wrapped(PICTURES[7].read_bytes())], parameters=None, signature_name="serving_default")
    (prediction,) = answer.json()["predictions"]
    assert prediction["digit"] == 7
    assert len(prediction["scores"]) == 10
    assert prediction["score"] == max(prediction["scores"])
    assert sum(prediction["scores"]) == pytest.approx(1, abs=1e-5)
