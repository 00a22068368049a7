"""Writes the models of the cookbook's recipes, with what their handlers need to know of them.

    python tools/example_models.py

Nothing is trained: every weight is chosen so that the model truly does what its recipe says, and a reader can see why.
The same versions of onnx write the same files. It needs onnx.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64

#: Colours of `colour`, in the order of its output: red, green and blue in 0..1.
COLOURS = {
    "black": (0, 0, 0),
    "white": (1, 1, 1),
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
}

#: Words of `polarity`, and how friendly each is.
WORDS = {
    "awful": -2,
    "bad": -1,
    "boring": -1,
    "broken": -1,
    "good": 1,
    "great": 2,
    "hate": -2,
    "like": 1,
    "love": 2,
    "lovely": 2,
    "never": -1,
    "nice": 1,
}
TOKENS = 16

#: Sides of the detector's picture and of a window, and how far windows are apart, in pixels; boxes that it gives.
_SIDE, _WINDOW, _STEP, _BOXES = 32, 8, 4, 4

#: Turns of the loop after which `months` gives up.
_TURNS = 200_000

Tensors = Mapping[str, tuple[int, Sequence[int]]]  # name -> datatype and shape without the batch


def _model(nodes: Sequence[onnx.NodeProto], given: Tensors, made: Tensors, constants: Mapping[str, Any]) -> bytes:
    """An ONNX file whose tensors all have a batch dimension `n`; constants are float32 unless they are arrays."""
    inputs, outputs = (
        [helper.make_tensor_value_info(name, kind, ["n", *shape]) for name, (kind, shape) in tensors.items()]
        for tensors in (given, made)
    )
    arrays = {name: c if isinstance(c, np.ndarray) else np.array(c, np.float32) for name, c in constants.items()}
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "recipe", inputs, outputs, initializers)
    # An old opset and format, so that old runtimes load it too.
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="example_models"
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def colour() -> bytes:
    """Pixels [n, 3, 8, 8] in 0..1 -> the share of each colour, [n, 6].

    Each pixel is shared among the colours by a softmax of minus the squared distance, which is linear in the pixel but
    for a term that all colours have in common.
    """
    colours, sharpness = np.array(list(COLOURS.values()), np.float32), 20.0
    node = helper.make_node
    nodes = [
        node("Conv", ["pixels", "weights", "bias"], ["nearness"], kernel_shape=[1, 1]),
        node("Softmax", ["nearness"], ["shares"], axis=1),
        node("GlobalAveragePool", ["shares"], ["averages"]),
        node("Flatten", ["averages"], ["share"]),
    ]
    constants = {
        "weights": 2 * sharpness * colours[:, :, np.newaxis, np.newaxis],
        "bias": -sharpness * (colours**2).sum(axis=1),
    }
    return _model(nodes, {"pixels": (FLOAT, [3, 8, 8])}, {"share": (FLOAT, [len(COLOURS)])}, constants)


def polarity() -> bytes:
    """Ids [n, 16], 0 for no word, -> the probabilities that a text is friendly and that it is not, [n, 2]."""
    half = np.array([0, *WORDS.values()], np.float32) / 2
    nodes = [
        helper.make_node("Gather", ["embeddings", "ids"], ["words"], axis=0),
        helper.make_node("ReduceSum", ["words", "axes"], ["bag"], keepdims=0),
        helper.make_node("Softmax", ["bag"], ["probabilities"], axis=1),
    ]
    constants = {"embeddings": np.stack([half, -half], axis=1), "axes": np.array([1])}
    return _model(nodes, {"ids": (INT64, [TOKENS])}, {"probabilities": (FLOAT, [2])}, constants)


def blobs() -> bytes:
    """Pixels [n, 3, 32, 32] in 0..1 -> the brightest places: boxes [n, 4, 4] and scores [n, 4], best first.

    A box is left, top, right and bottom as shares of the picture. Its score is the mean brightness of a window; windows
    that are not the best among their neighbours score 0. Later windows win ties, by less than any brightness counts.
    """
    rows = (_SIDE - _WINDOW) // _STEP + 1
    places = np.arange(rows) * _STEP / _SIDE
    top, left = (axis.reshape(-1) for axis in np.meshgrid(places, places, indexing="ij"))
    boxes = np.stack([left, top, left + _WINDOW / _SIDE, top + _WINDOW / _SIDE], axis=1).astype(np.float32)
    node = helper.make_node
    nodes = [
        node("ReduceMax", ["pixels"], ["brightness"], axes=[1], keepdims=1),
        node("AveragePool", ["brightness"], ["means"], kernel_shape=[_WINDOW] * 2, strides=[_STEP] * 2),
        node("Add", ["means", "order"], ["windows"]),
        node("MaxPool", ["windows"], ["best"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("GreaterOrEqual", ["windows", "best"], ["is_peak"]),
        node("Cast", ["is_peak"], ["peak"], to=FLOAT),
        node("Mul", ["means", "peak"], ["peaks"]),
        node("Flatten", ["peaks"], ["flat"]),
        node("TopK", ["flat", "count"], ["scores", "places"], axis=1),
        node("Gather", ["all_boxes", "places"], ["boxes"], axis=0),
    ]
    order = np.arange(rows * rows, dtype=np.float32).reshape(1, 1, rows, rows) * 1e-5
    constants = {"order": order, "count": np.array([_BOXES]), "all_boxes": boxes}
    made = {"boxes": (FLOAT, [_BOXES, 4]), "scores": (FLOAT, [_BOXES])}
    return _model(nodes, {"pixels": (FLOAT, [3, _SIDE, _SIDE])}, made, constants)


def price(room: float, square_metre: float, year: float) -> bytes:
    """A home's x [n, 3], rooms, square metres and age in years, -> its price [n, 1], linear in these."""
    nodes = [helper.make_node("MatMul", ["x", "weights"], ["price"])]
    constants = {"weights": [[room], [square_metre], [year]]}
    return _model(nodes, {"x": (FLOAT, [3])}, {"price": (FLOAT, [1])}, constants)


def churn() -> bytes:
    """A customer's x [n, 3], months, calls to support and logins a week, -> the probability [n, 1] that they leave."""
    nodes = [
        helper.make_node("Gemm", ["x", "weights", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["leaves"]),
    ]
    constants = {"weights": [[-0.05], [0.8], [-0.4]], "bias": [0.0]}
    return _model(nodes, {"x": (FLOAT, [3])}, {"leaves": (FLOAT, [1])}, constants)


#: A loan's debt, monthly rate and monthly payment, each [n, 1].
_PARTS = ["debt", "rate", "payment"]


def months() -> bytes:
    """A loan [n, 3] -> the months [n, 1] until it is paid off, one by one: slow where interest eats payments."""
    node = helper.make_node
    body = [
        node("Greater", ["owed", "zero"], ["is_open"]),
        node("Cast", ["is_open"], ["open"], to=FLOAT),
        node("Mul", ["owed", "rate"], ["interest"]),
        node("Sub", ["interest", "payment"], ["change"]),
        node("Mul", ["change", "open"], ["counted"]),
        node("Add", ["owed", "counted"], ["still_owed"]),
        node("Add", ["so_far", "open"], ["then"]),
        node("ReduceMax", ["still_owed"], ["most"], keepdims=0),
        node("Greater", ["most", "zero"], ["go_on"]),
    ]
    value = helper.make_tensor_value_info
    given = [value("turn", INT64, []), value("going", TensorProto.BOOL, [])]
    given += [value("owed", FLOAT, ["n", 1]), value("so_far", FLOAT, ["n", 1])]
    made = [value("go_on", TensorProto.BOOL, []), value("still_owed", FLOAT, ["n", 1]), value("then", FLOAT, ["n", 1])]
    nodes = [
        node("Split", ["loan", "ones"], _PARTS, axis=1),
        node("Mul", ["debt", "zero"], ["none"]),
        node(
            "Loop",
            ["turns", "yes", "debt", "none"],
            ["rest", "months"],
            body=helper.make_graph(body, "month", given, made),
        ),
    ]
    constants = {"ones": np.array([1, 1, 1]), "turns": np.array(_TURNS), "yes": np.array(True), "zero": 0.0}
    return _model(nodes, {"loan": (FLOAT, [3])}, {"months": (FLOAT, [1])}, constants)


def months_without_interest() -> bytes:
    """The same, at once and too few."""
    nodes = [
        helper.make_node("Split", ["loan", "ones"], _PARTS, axis=1),
        helper.make_node("Div", ["debt", "payment"], ["exactly"]),
        helper.make_node("Ceil", ["exactly"], ["months"]),
    ]
    constants = {"ones": np.array([1, 1, 1])}
    return _model(nodes, {"loan": (FLOAT, [3])}, {"months": (FLOAT, [1])}, constants)


def _config(versions: int) -> bytes:
    """Without a policy, Triton serves the latest version alone."""
    policy = "version_policy { all { } }\n" if versions > 1 else ""
    return f'backend: "onnxruntime"\nmax_batch_size: 64\n{policy}'.encode()


def _repository(recipe: str, **models: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """Files of a recipe's models, each given by its versions."""
    for name, versions in models.items():
        yield f"{recipe}/triton_repo/{name}/config.pbtxt", _config(len(versions))
        for number, content in enumerate(versions, 1):
            yield f"{recipe}/triton_repo/{name}/{number}/model.onnx", content


def files() -> dict[str, bytes]:
    """Every file that is made here: its path below examples/, and what is in it."""
    today, improved = price(0, 3000, 0), price(5000, 2900, -500)
    return dict(
        [
            *_repository("image_classifier", colour=[colour()]),
            *_repository("text_tokenizer", polarity=[polarity()]),
            ("text_tokenizer/vocabulary.txt", "".join(f"{word}\n" for word in WORDS).encode()),
            *_repository("detector_then_classifier", detector=[blobs()], classifier=[colour()]),
            *_repository("ab_split", price=[today, improved]),
            *_repository("shadow", price=[today, improved]),
            *_repository("fallback", large=[months()], small=[months_without_interest()]),
            *_repository("ensemble", by_area=[today], by_rooms=[price(90_000, 0, 0)], by_all=[improved]),
            *_repository("tabular_lookup", churn=[churn()]),
            *_repository("external_service", churn=[churn()]),
        ]
    )


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description="Writes the models of the cookbook's recipes.")
    parser.add_argument("--folder", type=Path, default=ROOT / "examples", help="folder to write to")
    folder: Path = parser.parse_args().folder
    for name, content in files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    print(f"wrote {len(files())} files to {folder}")


if __name__ == "__main__":
    main()
