"""Trains the digit recogniser and writes its model and the sample pictures.

    python tools/train_digits.py

The network is small: eight fixed edge filters, pooled, and one hidden layer on top (some 46,000 weights). It learns
from scikit-learn's bundled digits, distorted in many ways, and from drawn strokes (``training_strokes.py``); every
picture passes the handler's own pre-processing, so training and serving cannot drift apart. Neither the held-out digits
nor the shapes of ``draw_digits.py`` take part.

The seed is fixed. On one machine the same versions write the same bytes; elsewhere sums may be rounded differently.
It takes about two minutes on one core and needs scikit-learn, onnx and Pillow.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageOps
from sklearn.neural_network import MLPClassifier

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, only tools/ is on the path

from handlers.digits import Digits
from handlers.ink import SIDE, centred, numbers_ink
from tools.digits_data import Split, encoded, load_split, render, scaled_up
from tools.draw_digits import draw
from tools.training_strokes import drawn, written

ROOT = Path(__file__).resolve().parent.parent

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Rng = np.random.Generator

SEED = 20
DISTORTIONS = 20  # of each training digit
STROKES = 36_000  # drawn digits
EPOCHS = 30
AVERAGED = 12  # of the last epochs' weights are averaged, which does what a falling learning rate does
HIDDEN = 128

_EDGES, _KERNEL = 8, 5
_CELL, _REACH = 4, 6  # edges are averaged over windows of 6x6, 4 pixels apart
_DOT = 3  # ink is averaged over 3x3


# --- training pictures ------------------------------------------------------------------------------------------------


def distorted(numbers: Floats, rng: Rng) -> Floats:
    """Turns, slants and stretches a data-set picture and makes its strokes thicker or thinner.

    Args:
        numbers: Shape [64], 0..16.
        rng: Decides how.

    Returns:
        Ink in 0..1, shape [128, 128].
    """
    framed = np.pad(numbers.reshape(8, 8), 4) * (255 / 16)
    picture = Image.fromarray(framed.astype(np.uint8)).resize((128, 128), Image.Resampling.BICUBIC)
    turn, slant = math.radians(float(np.clip(rng.normal(0, 7), -20, 20))), float(rng.normal(0, 0.14))
    across, down = (float(size) for size in np.exp(rng.normal(0, 0.12, 2)))
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = rotation @ np.array([[across, slant], [0.0, down]])
    shift = 64 - matrix @ np.array([64, 64])
    rows = (*matrix[0], shift[0], *matrix[1], shift[1])
    moved = picture.transform(picture.size, Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)
    ink = np.asarray(moved, dtype=np.float32) / 255
    if rng.random() < 0.5:  # hard edges; where the cut lies decides how thick the strokes become
        ink = (ink - rng.uniform(0.3, 0.6)) / rng.uniform(0.05, 0.35) + 0.5
    else:
        ink = ink / np.percentile(ink[ink > 0.4], 75)
    return np.clip(ink, 0, 1).astype(np.float32)


def _from_data(split: Split, rng: Rng) -> tuple[list[Floats], list[int]]:
    """Makes training inputs of the training digits: as they are, as picture files and distorted."""
    handler = Digits()
    inputs: list[Floats] = []
    for numbers in split.train:
        inputs.append(centred(numbers_ink(numbers.tolist())))
        for turn in range(DISTORTIONS):
            if turn % 6 == 0:
                inputs.append(handler.preprocess(render(numbers, rng))["X"][0])
            else:
                inputs.append(centred(distorted(numbers, rng)))
    return inputs, np.repeat(split.train_digits, 1 + DISTORTIONS).tolist()


def _from_strokes(rng: Rng) -> tuple[list[Floats], list[int]]:
    """Makes training inputs of drawn digits."""
    handler = Digits()
    digits = [place % 10 for place in range(STROKES)]
    inputs: list[Floats] = []
    for digit in digits:
        pen, margin, side = rng.uniform(0.06, 0.26), rng.uniform(0.02, 0.12), int(rng.integers(36, 90))
        picture = drawn(written(rng, digit), rng, side, float(pen), float(margin))
        inputs.append(handler.preprocess(encoded(picture))["X"][0])
    return inputs, digits


def training_set(split: Split, rng: Rng) -> tuple[Floats, Labels]:
    """Makes all training inputs.

    Returns:
        The network's inputs, shape [n, 24, 24], float32, and their digits, shape [n], int64.
    """
    began = time.monotonic()
    from_data, data_digits = _from_data(split, rng)
    print(f"  {len(from_data)} inputs from the data set ({time.monotonic() - began:.0f} s)", flush=True)
    from_strokes, stroke_digits = _from_strokes(rng)
    print(f"  {len(from_strokes)} inputs from drawn strokes ({time.monotonic() - began:.0f} s)", flush=True)
    return np.stack(from_data + from_strokes), np.array(data_digits + stroke_digits, dtype=np.int64)


# --- the network ------------------------------------------------------------------------------------------------------


def edge_filters() -> Floats:
    """Returns derivatives of a Gaussian in eight directions, shape [8, 5, 5]."""
    steps = np.arange(_KERNEL) - _KERNEL // 2
    ys, xs = np.meshgrid(steps, steps, indexing="ij")
    bell = np.exp(-(xs**2 + ys**2) / (2 * 1.2**2))
    turns = 2 * np.pi * np.arange(_EDGES) / _EDGES
    filters = (np.cos(turns)[:, None, None] * xs + np.sin(turns)[:, None, None] * ys) * bell
    # The scale brings the pooled edges to about the range of the ink, which helps the training along.
    return np.asarray(6 * filters / np.abs(filters).sum(axis=(1, 2), keepdims=True), dtype=np.float32)


def features(inputs: Floats) -> Floats:
    """Computes what the network's fixed part computes.

    Args:
        inputs: Shape [n, 24, 24], float32.

    Returns:
        Shape [n, 352], float32: pooled edges in eight directions (8x6x6), then pooled ink (8x8).
    """
    windows: Any = np.lib.stride_tricks.sliding_window_view  # its hints differ between numpy 1 and 2
    filters = edge_filters().reshape(_EDGES, -1)
    parts: list[Floats] = []
    for begin in range(0, len(inputs), 1000):  # in parts, for the windows take 25 times the memory
        part = inputs[begin : begin + 1000]
        around = windows(np.pad(part, ((0, 0), (2, 2), (2, 2))), (_KERNEL, _KERNEL), axis=(1, 2))
        edges = np.maximum(around.reshape(len(part), SIDE, SIDE, -1) @ filters.T, 0).transpose(0, 3, 1, 2)
        edges = np.pad(edges, ((0, 0), (0, 0), (1, 1), (1, 1)))
        cells = windows(edges, (_REACH, _REACH), axis=(2, 3))[:, :, ::_CELL, ::_CELL].mean(axis=(-1, -2))
        dots = part.reshape(len(part), SIDE // _DOT, _DOT, SIDE // _DOT, _DOT).mean(axis=(2, 4))
        parts.append(np.concatenate([cells.reshape(len(part), -1), dots.reshape(len(part), -1)], axis=1))
    return np.asarray(np.concatenate(parts), dtype=np.float32)


@dataclass(frozen=True)
class Network:
    """The trained part of the network.

    Attributes:
        weights: Of the hidden and the last layer, shapes [352, 128] and [128, 10], float32.
        biases: Shapes [128] and [10], float32.
    """

    weights: tuple[Floats, Floats]
    biases: tuple[Floats, Floats]

    def answers(self, inputs: Floats) -> Labels:
        """Says which digits inputs of shape [n, 1, 24, 24] show: shape [n], int64."""
        hidden = np.maximum(features(inputs[:, 0]) @ self.weights[0] + self.biases[0], 0)
        return np.asarray(np.argmax(hidden @ self.weights[1] + self.biases[1], axis=1), dtype=np.int64)


def trained(inputs: Floats, digits: Labels) -> Network:
    """Trains the network.

    Args:
        inputs: Shape [n, 24, 24], float32.
        digits: Shape [n], int64.
    """
    model = MLPClassifier((HIDDEN,), alpha=1e-4, learning_rate_init=2e-3, batch_size=256, random_state=SEED)
    known = features(inputs)
    sums = [np.zeros(1)] * 4
    began = time.monotonic()
    for epoch in range(EPOCHS):
        model.partial_fit(known, digits, classes=np.arange(10))
        if epoch >= EPOCHS - AVERAGED:
            sums = [total + layer for total, layer in zip(sums, [*model.coefs_, *model.intercepts_], strict=True)]
        if (epoch + 1) % 5 == 0:
            spent = time.monotonic() - began
            print(f"  epoch {epoch + 1}/{EPOCHS}, loss {model.loss_:.4f} ({spent:.0f} s)", flush=True)
    first, last, first_bias, last_bias = ((total / AVERAGED).astype(np.float32) for total in sums)
    return Network((first, last), (first_bias, last_bias))


# --- export -----------------------------------------------------------------------------------------------------------


def _nodes() -> list[onnx.NodeProto]:
    """The network's operators: edges and ink, pooled, then two dense layers."""
    node = helper.make_node
    windows: dict[str, Any] = {"kernel_shape": [_REACH, _REACH], "strides": [_CELL, _CELL], "pads": [1, 1, 1, 1]}
    return [
        node("Conv", ["X", "filters"], ["edges"], kernel_shape=[_KERNEL, _KERNEL], pads=[2, 2, 2, 2]),
        node("Relu", ["edges"], ["one_sided"]),
        node("AveragePool", ["one_sided"], ["cells"], count_include_pad=1, **windows),
        node("Flatten", ["cells"], ["flat_cells"]),
        node("AveragePool", ["X"], ["dots"], kernel_shape=[_DOT, _DOT], strides=[_DOT, _DOT]),
        node("Flatten", ["dots"], ["flat_dots"]),
        node("Concat", ["flat_cells", "flat_dots"], ["features"], axis=1),
        node("Gemm", ["features", "weights_1", "bias_1"], ["sums"]),
        node("Relu", ["sums"], ["hidden"]),
        node("Gemm", ["hidden", "weights_2", "bias_2"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]


def exported(network: Network) -> onnx.ModelProto:
    """Writes the network as ONNX: X [n, 1, 24, 24] to probabilities [n, 10], both float32, n being any number."""
    constants = {"filters": edge_filters()[:, np.newaxis]}
    for number in (0, 1):
        constants |= {f"weights_{number + 1}": network.weights[number], f"bias_{number + 1}": network.biases[number]}
    graph = helper.make_graph(
        _nodes(),
        "digits",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    # An old opset and format, so that old runtimes load it too.
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="train_digits"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


# --- measuring --------------------------------------------------------------------------------------------------------


def listed_inputs(pictures: Floats) -> Floats:
    """Passes data-set pictures, shape [n, 64], through the handler as lists of numbers: shape [n, 1, 24, 24]."""
    handler = Digits()
    return np.stack([handler.preprocess(numbers.tolist())["X"] for numbers in pictures])


def rendered_inputs(split: Split, count: int, seed: int) -> tuple[Floats, Labels]:
    """Passes held-out digits through the handler as picture files.

    Returns:
        Inputs, shape [count, 1, 24, 24], float32, and their digits, shape [count], int64.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(split.held_out), size=count)
    handler = Digits()
    inputs = [handler.preprocess(render(split.held_out[place], rng))["X"] for place in chosen]
    return np.stack(inputs), split.held_out_digits[chosen]


def polyline_inputs(count: int, seed: int) -> tuple[Floats, Labels]:
    """Passes drawn digits, as many of each, through the handler as PNG files.

    Returns:
        Inputs, shape [count, 1, 24, 24], float32, and their digits, shape [count], int64.
    """
    rng = np.random.default_rng(seed)
    handler = Digits()
    pairs = [draw(rng, place % 10) for place in range(count)]
    inputs = [handler.preprocess(encoded(picture))["X"] for picture, _ in pairs]
    return np.stack(inputs), np.array([digit for _, digit in pairs], dtype=np.int64)


def report(network: Network, split: Split) -> None:
    """Prints how well the network does on what it never saw."""
    right = network.answers(listed_inputs(split.held_out)) == split.held_out_digits
    print(f"held-out digits as numbers: {right.mean():.2%} of {len(right)}")
    inputs, digits = rendered_inputs(split, 1000, SEED)
    print(f"held-out digits as pictures: {(network.answers(inputs) == digits).mean():.2%} of {len(digits)}")
    inputs, digits = polyline_inputs(1000, SEED)
    right = network.answers(inputs) == digits
    print(f"polyline digits: {right.mean():.2%} of {len(right)}")
    print("  by digit: " + ", ".join(f"{digit}: {right[digits == digit].mean():.0%}" for digit in range(10)))


# --- sample pictures --------------------------------------------------------------------------------------------------

# For each digit: size, file type, colours of ink and paper, and whether drawn or taken from the held-out digits.
_EXAMPLES: tuple[tuple[int, str, str, str, bool], ...] = (
    (200, "png", "black", "white", True),
    (96, "png", "white", "black", True),
    (160, "jpg", "navy", "#f4ecd8", False),
    (320, "jpg", "black", "#d8d8d8", True),
    (64, "png", "#ffd000", "#203060", False),
    (240, "png", "#c02020", "#fff4f0", True),
    (48, "png", "black", "white", False),
    (400, "jpg", "#1a3c8c", "white", True),
    (128, "jpg", "white", "#205030", False),
    (300, "png", "#e8e8e8", "#303030", True),
)


def write_examples(network: Network, split: Split, folder: Path) -> None:
    """Writes one picture per digit, each the first of its kind that the network reads rightly."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = Digits()
    for digit, (size, kind, ink, paper, is_drawn) in enumerate(_EXAMPLES):
        rng = np.random.default_rng(SEED + digit)
        for numbers in split.held_out[split.held_out_digits == digit]:
            grey = draw(rng, digit, size)[0] if is_drawn else scaled_up(numbers, size)
            if grey.getpixel((0, 0)) != 0:
                grey = ImageOps.invert(grey)
            coloured = ImageOps.colorize(ImageOps.autocontrast(grey), black=paper, white=ink)
            plain = {ink, paper} == {"black", "white"}
            data = encoded(coloured.convert("L") if plain else coloured, 88 if kind == "jpg" else None)
            if network.answers(handler.preprocess(data)["X"][np.newaxis])[0] == digit:
                (folder / f"digit-{digit}.{kind}").write_bytes(data)
                break


def main() -> None:
    """Trains, reports and writes."""
    parser = argparse.ArgumentParser(description="Trains the digit recogniser.")
    parser.add_argument("--model", type=Path, default=ROOT / "triton_repo/digits/1/model.onnx", help="file to write")
    parser.add_argument("--examples", type=Path, default=ROOT / "examples", help="folder for the sample pictures")
    options = parser.parse_args()
    split = load_split()
    print("making training pictures", flush=True)
    inputs, digits = training_set(split, np.random.default_rng(SEED))
    print(f"training on {len(inputs)} inputs", flush=True)
    network = trained(inputs, digits)
    report(network, split)
    options.model.parent.mkdir(parents=True, exist_ok=True)
    options.model.write_bytes(exported(network).SerializeToString())
    print(f"wrote {options.model} ({options.model.stat().st_size} bytes)")
    write_examples(network, split, options.examples)
    print(f"wrote sample pictures to {options.examples}")


if __name__ == "__main__":
    main()
