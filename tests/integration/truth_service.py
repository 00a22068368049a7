"""A service of small models and what they answer, told by numpy: for tests of what comes back under load."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

#: What a model does on purpose when a row begins with one of these: an error of the caller's, and one of its own.
REFUSED, FAILED = 666.0, 667.0

MODEL = """
import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        self.answer = globals()[args["model_name"]]

    def execute(self, requests):
        return [self.answer(pb.get_input_tensor_by_name(request, "X").as_numpy()) for request in requests]


def told(**outputs):
    return pb.InferenceResponse([pb.Tensor(name, array) for name, array in outputs.items()])


def affine(x):
    return told(Y=1.5 * x - np.float32(0.25))


def picky(x):
    # what real models do: one row fails the whole response
    for row in x:
        if row[0] == 666:
            return pb.InferenceResponse([], pb.TritonError(f"refused {row[1]:.0f}", pb.TritonError.INVALID_ARG))
        if row[0] == 667:
            return pb.InferenceResponse([], pb.TritonError(f"failed {row[1]:.0f}"))
    return affine(x)


def raising(x):
    if (x[:, 0] >= 666).any():
        raise ValueError("a row that this model cannot stand")
    return affine(x)


def free(x):
    return told(Y=2 * x[:, ::-1] + np.float32(1))


def text(x):
    return told(Y=np.array([[item[::-1] + b"!" for item in row] for row in x], np.object_))


def large(x):
    return told(SUMS=x.sum(axis=(2, 3)), FIRST=x[:, :, 0, 0].astype(np.int64))


def single(x):
    return told(Y=x.sum(axis=0))
"""

HANDLER = """
import numpy as np

from listener import Handler, InstanceError


class Ramp(Handler):
    model = "picky"

    def preprocess(self, instance):
        if instance["start"] < 0:
            raise InstanceError(f"{instance['start']} is negative")
        return {"X": np.array([0, instance["start"], instance["step"], 1], np.float32)}

    async def postprocess(self, outputs):
        return {"sum": float(outputs["Y"].sum()), "second": float(outputs["Y"][1])}
"""

#: Rows of the input, of the outputs, and what else the configuration says.
_FP32_4 = ("TYPE_FP32", "[ 4 ]", {"Y": ("TYPE_FP32", "[ 4 ]")})
_MODELS: dict[str, tuple[str, str, dict[str, tuple[str, str]], str]] = {
    "affine": ("TYPE_FP32", "[ 16 ]", {"Y": ("TYPE_FP32", "[ 16 ]")}, "max_batch_size: 16 dynamic_batching { }"),
    "picky": (*_FP32_4, "max_batch_size: 16 dynamic_batching { }"),
    # without dynamic batching: Triton itself would let one request's exception fail those it puts beside it
    "raising": (*_FP32_4, "max_batch_size: 16"),
    "free": ("TYPE_FP32", "[ -1 ]", {"Y": ("TYPE_FP32", "[ -1 ]")}, "max_batch_size: 16 dynamic_batching { }"),
    "text": ("TYPE_STRING", "[ -1 ]", {"Y": ("TYPE_STRING", "[ -1 ]")}, "max_batch_size: 16 dynamic_batching { }"),
    "large": (
        "TYPE_FP32",
        "[ 3, 128, 128 ]",
        {"SUMS": ("TYPE_FP32", "[ 3 ]"), "FIRST": ("TYPE_INT64", "[ 3 ]")},
        "max_batch_size: 8 dynamic_batching { }",
    ),
    "single": ("TYPE_FP32", "[ -1, 2 ]", {"Y": ("TYPE_FP32", "[ 2 ]")}, "max_batch_size: 0"),
}


def write(folder: Path) -> Path:
    """Writes the service; gives its folder."""
    for name, (datatype, shape, outputs, more) in _MODELS.items():
        model = folder / "triton_repo" / name
        (model / "1").mkdir(parents=True)
        (model / "1/model.py").write_text(MODEL)
        said = ", ".join(f'{{ name: "{o}" data_type: {t} dims: {dims} }}' for o, (t, dims) in outputs.items())
        (model / "config.pbtxt").write_text(
            f'backend: "python" {more}\ninput [ {{ name: "X" data_type: {datatype} dims: {shape} }} ]\n'
            f"output [ {said} ]\ninstance_group [ {{ kind: KIND_CPU count: {2 if name == 'affine' else 1} }} ]\n"
        )
    (folder / "handlers").mkdir()
    (folder / "handlers/ramp.py").write_text(HANDLER)
    routes = "".join(f"  {name}: {{}}\n" for name in _MODELS)
    (folder / "listener.yaml").write_text(
        f"default: large\nroutes:\n{routes}  ramp:\n    handler: handlers.ramp:Ramp\n"
    )
    return folder


@dataclass(frozen=True, slots=True)
class Case:
    """One request and what must come back.

    Attributes:
        body: to be sent.
        status: of the answer.
        expected: the predictions; None where there are none.
        sentences: one of these, whole, is the error.
        raw: the body is no JSON but one instance's bytes.
    """

    route: str
    body: bytes
    status: int
    expected: Any
    sentences: tuple[str, ...] = ()
    raw: bool = False

    def mistake(self, status: int, answer: Any) -> str | None:
        """What is wrong with an answer; None if nothing is."""
        if status != self.status:
            return f"{self.route}: status {status} instead of {self.status}: {answer}"
        if status != 200:
            return None if answer.get("error") in self.sentences else f"{self.route}: not its error: {answer}"
        if answer != {"predictions": self.expected}:
            return f"{self.route}: a wrong answer: {answer} instead of {self.expected}"
        return None


Maker: TypeAlias = Callable[[Generator], Case]


def _rows(rng: Generator) -> int:
    """Mostly few, sometimes more than the models take at a time."""
    return int(rng.integers(1, 41) if rng.random() < 0.2 else rng.integers(1, 6))


def _body(route: str, instances: list[Any]) -> bytes:
    return json.dumps({"instances": instances, "parameters": {"model": route}}).encode()


def _numbers(rng: Generator, *shape: int) -> NDArray[np.float32]:
    """Whole numbers that are nobody else's; 32 bits, and their shortest print, hold what the models make of them."""
    return rng.integers(1000, 1 << 18, shape).astype(np.float32)


def _affine(x: NDArray[np.float32]) -> list[Any]:
    made: list[Any] = (np.float32(1.5) * x - np.float32(0.25)).tolist()
    return made


def affine(rng: Generator) -> Case:
    x = _numbers(rng, _rows(rng), 16)
    return Case("affine", _body("affine", x.tolist()), 200, _affine(x))


def picky(rng: Generator) -> Case:
    x = _numbers(rng, _rows(rng), 4)
    status, sentences = 200, list[str]()
    if rng.random() < 0.15:
        bad = x[int(rng.integers(len(x)))]
        if rng.random() < 0.5:
            status, bad[0], sentences = 400, REFUSED, [f"model 'picky': refused {bad[1]:.0f}"]
        else:
            status, bad[0], sentences = 502, FAILED, ["model 'picky' failed in Triton"]
    return Case("picky", _body("picky", x.tolist()), status, _affine(x), tuple(sentences))


def raising(rng: Generator) -> Case:
    x = _numbers(rng, _rows(rng), 4)
    x[:, 0] %= 600
    bad = rng.random() < 0.15
    if bad:
        x[int(rng.integers(len(x))), 0] = FAILED
    told = ("model 'raising' failed in Triton",)
    return Case("raising", _body("raising", x.tolist()), 502 if bad else 200, _affine(x), told)


def free(rng: Generator) -> Case:
    x = _numbers(rng, _rows(rng), int(rng.integers(1, 8)))
    return Case("free", _body("free", x.tolist()), 200, (2 * x[:, ::-1] + 1).tolist())


def text(rng: Generator) -> Case:
    rows, width = _rows(rng), int(rng.integers(1, 4))
    items = [[rng.bytes(int(rng.integers(0, 30))) for _ in range(width)] for _ in range(rows)]
    said = [[{"b64": base64.b64encode(item).decode()} for item in row] for row in items]
    return Case("text", _body("text", said), 200, [[_said(item[::-1] + b"!") for item in row] for row in items])


def _said(item: bytes) -> Any:
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(item).decode()}


def large(rng: Generator) -> Case:
    """Through shared memory; sums of whole numbers up to 255 are exact."""
    raw = rng.random() < 0.5
    rows = 1 if raw else int(rng.integers(1, 20) if rng.random() < 0.05 else rng.integers(1, 4))
    x = rng.integers(0, 256, (rows, 3, 128, 128), np.uint8).astype("<f4")
    expected = [
        {"SUMS": sums, "FIRST": first}
        for sums, first in zip(x.sum(axis=(2, 3)).tolist(), x[:, :, 0, 0].astype(int).tolist(), strict=True)
    ]
    body = x.tobytes() if raw else _body("large", [{"b64": base64.b64encode(row.tobytes()).decode()} for row in x])
    return Case("large", body, 200, expected, raw=raw)


def single(rng: Generator) -> Case:
    x = rng.integers(0, 1 << 16, (int(rng.integers(1, 12)), int(rng.integers(1, 6)), 2)).astype(np.float32)
    return Case("single", _body("single", x.tolist()), 200, x.sum(axis=1).tolist())


def ramp(rng: Generator) -> Case:
    """The route with a handler; it shares its model's calls with `picky`."""
    given = [{"start": int(a), "step": int(b)} for a, b in rng.integers(0, 1 << 16, (_rows(rng), 2))]
    expected = [
        {"sum": 1.5 * (one["start"] + one["step"] + 1) - 1.0, "second": 1.5 * one["start"] - 0.25} for one in given
    ]
    if rng.random() < 0.1:
        index, value = int(rng.integers(len(given))), -int(rng.integers(1, 1 << 16))
        given[index]["start"] = value
        told = (f"instances[{index}]: {value} is negative",)
        return Case("ramp", _body("ramp", given), 400, None, told)
    return Case("ramp", _body("ramp", given), 200, expected)


def malformed(rng: Generator) -> Case:
    """An instance of another length or of no numbers; the answer names the place."""
    x: list[Any] = _numbers(rng, _rows(rng), 4).tolist()
    index = int(rng.integers(len(x)))
    if rng.random() < 0.5:
        x[index] = x[index][:3]
        told = f"instances[{index}]: input 'X' has shape [3]; the model takes [4]"
    else:
        x[index][2] = "a"
        told = f"instances[{index}]: input 'X' is FP32 and takes numbers, not 'a' at [2]"
    return Case("picky", _body("picky", x), 400, None, (told,))


MAKERS: tuple[Maker, ...] = (affine, picky, raising, free, text, large, single, ramp, malformed)
#: How often each is sent.
SHARES = (0.2, 0.2, 0.1, 0.15, 0.1, 0.05, 0.05, 0.1, 0.05)
