"""How well the committed model does on what it never saw, and that it is what Triton and old runtimes load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("sklearn")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from tools.digits_data import load_split, render, scaled_up  # noqa: E402
from tools.draw_digits import draw  # noqa: E402
from tools.train_digits import (  # noqa: E402
    Network,
    distorted,
    exported,
    features,
    listed_inputs,
    polyline_inputs,
    rendered_inputs,
)
from tools.training_strokes import drawn, written  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "triton_repo/digits/1/model.onnx"
Answers = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]]


@pytest.fixture(scope="module")
def answers() -> Answers:
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    return lambda inputs: np.argmax(session.run(["probabilities"], {"X": inputs})[0], axis=1)


# --- the committed model ----------------------------------------------------------------------------------------------


def test_held_out_digits_as_numbers(answers: Answers) -> None:
    split = load_split()
    right = answers(listed_inputs(split.held_out)) == split.held_out_digits
    assert right.mean() >= 0.97


def test_held_out_digits_as_pictures(answers: Answers) -> None:
    inputs, digits = rendered_inputs(load_split(), 400, seed=1)
    assert (answers(inputs) == digits).mean() >= 0.97


@pytest.mark.parametrize("seed", [1, 2])
def test_polyline_digits(seed: int, answers: Answers) -> None:
    inputs, digits = polyline_inputs(300, seed)
    right = answers(inputs) == digits
    assert right.mean() >= 0.90
    by_digit = {digit: float(right[digits == digit].mean()) for digit in range(10)}
    assert min(by_digit.values()) >= 0.70, by_digit


def test_the_model_file_fits_its_config_and_old_runtimes() -> None:
    model = onnx.load(MODEL)
    assert MODEL.stat().st_size < 300_000
    assert model.ir_version <= 9
    assert [opset.version <= 17 for opset in model.opset_import] == [True]
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape[1:]) == ("X", "tensor(float)", [1, 24, 24])
    assert (given.name, given.type, given.shape[1:]) == ("probabilities", "tensor(float)", [10])
    assert isinstance(taken.shape[0], str) and taken.shape[0] == given.shape[0]
    config = (ROOT / "triton_repo/digits/config.pbtxt").read_text()
    assert "dims: [ 1, 24, 24 ]" in config and "dims: [ 10 ]" in config


# --- what it learned from ---------------------------------------------------------------------------------------------


def test_the_split_is_fixed_stratified_and_disjoint() -> None:
    split, again = load_split(), load_split()
    assert np.array_equal(split.held_out, again.held_out)
    assert (len(split.train), len(split.held_out)) == (1437, 360)
    assert np.bincount(split.held_out_digits).min() >= 34
    assert not {row.tobytes() for row in split.train} & {row.tobytes() for row in split.held_out}


def test_the_same_seed_gives_the_same_pictures() -> None:
    numbers = load_split().train[0]
    assert render(numbers, np.random.default_rng(4)) == render(numbers, np.random.default_rng(4))
    first, second = (draw(np.random.default_rng(4)) for _ in range(2))
    assert first[1] == second[1] and first[0].tobytes() == second[0].tobytes()


@pytest.mark.parametrize("digit", range(10))
def test_every_digit_can_be_drawn_and_written(digit: int) -> None:
    rng = np.random.default_rng(digit)
    for _ in range(20):
        picture, label = draw(rng, digit)
        assert label == digit and picture.mode == "L" and 48 <= picture.width == picture.height <= 400
        assert np.ptp(np.asarray(picture)) > 100
        assert drawn(written(rng, digit), rng, 50, 0.1, 0.05).size == (50, 50)


def test_distorted_digits_keep_ink_and_range() -> None:
    rng = np.random.default_rng(0)
    for numbers in load_split().train[:20]:
        ink = distorted(numbers, rng)
        assert ink.dtype == np.float32 and ink.min() >= 0 and 0.8 < ink.max() <= 1


def test_scaled_up_inverts() -> None:
    numbers = load_split().train[0]
    light = np.asarray(scaled_up(numbers, 64), dtype=int)
    assert np.array_equal(255 - light, np.asarray(scaled_up(numbers, 64, dark_on_light=True), dtype=int))


# --- the export -------------------------------------------------------------------------------------------------------


def test_the_export_computes_what_training_computed() -> None:
    rng = np.random.default_rng(0)
    shapes = ((352, 128), (128, 10), (128,), (10,))
    first, last, first_bias, last_bias = (rng.normal(0, 0.1, shape).astype(np.float32) for shape in shapes)
    network = Network((first, last), (first_bias, last_bias))
    inputs = rng.random((7, 1, 24, 24), dtype=np.float32)
    hidden = np.maximum(features(inputs[:, 0]) @ first + first_bias, 0)
    logits = hidden @ last + last_bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    session = onnxruntime.InferenceSession(exported(network).SerializeToString(), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"X": inputs})
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert np.array_equal(network.answers(inputs), probabilities.argmax(axis=1))
