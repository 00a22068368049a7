"""The four loads: what is asked, in each form that a server takes, and what has to come back."""

from __future__ import annotations

import base64
import functools
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.pictures import pixels

Numbers = npt.NDArray[np.float64]
#: `instances`: the platform's JSON. `oip`: the Open Inference Protocol's JSON. `raw`: the tensor's bytes alone.
#: `oip-binary` and `vertex-binary`: the protocol's header and then the bytes, which a header of HTTP or the media type
#: of Triton's Vertex frontend says.
Form = Literal["instances", "oip", "raw", "oip-binary", "vertex-binary"]

#: Different bodies per load, sent in turn: an answer from a cache would be a wrong one.
BODIES = 8
_JSON = {"Content-Type": "application/json"}
_VERTEX = "application/vnd.vertex-ai-triton.binary+json;json-header-size="


@dataclass(frozen=True)
class Body:
    """One request body and its headers."""

    data: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Load:
    """One kind of request.

    Attributes:
        name: W1 to W4.
        title: for the report.
        model: the model that computes the answers.
        direct_model: the model that direct Triton serves; it differs where pre-processing has to move into Triton.
        service: the listener's folder under services/.
        inputs: for each body a batch of tensors, or a JPEG file.
        expected: for each body the batch of answers.
        tolerance: relative and absolute; FP32 sums are not exact.
    """

    name: str
    title: str
    model: str
    direct_model: str
    service: str
    inputs: Sequence[Any]
    expected: Sequence[Numbers]
    tolerance: float = 1e-3

    def bodies(self, form: Form, headers: Mapping[str, str] | None = None) -> list[Body]:
        """All bodies in a form; `headers` win over those of the form.

        Raises:
            ValueError: this load has no such form.
        """
        made = [_body(form, given) for given in self.inputs]
        return [Body(body.data, {**body.headers, **(headers or {})}) for body in made]


def _body(form: Form, given: Any) -> Body:
    match form, given:
        case "instances", bytes():
            return Body(_dumps({"instances": [{"b64": _base64(given)}]}), _JSON)
        case "instances", _:
            return Body(_dumps({"instances": given.tolist()}), _JSON)
        case "oip", bytes():
            tensor: dict[str, Any] = {"name": "X", "datatype": "BYTES", "shape": [1, 1], "data": [_base64(given)]}
            return Body(_dumps({"inputs": [tensor]}), _JSON)
        case "oip", _:
            return Body(_dumps({"inputs": [{**_description(given), "data": given.ravel().tolist()}]}), _JSON)
        case _, bytes():
            raise ValueError(f"a picture is not sent as {form}")
        case "raw", _:
            return Body(_bytes(given), {"Content-Type": "application/octet-stream"})
    tensor = {**_description(given), "parameters": {"binary_data_size": len(_bytes(given))}}
    header = _dumps({"inputs": [tensor]})
    marks = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(header))}
    if form == "vertex-binary":
        marks = {"Content-Type": f"{_VERTEX}{len(header)}"}
    return Body(header + _bytes(given), marks)


def _description(batch: npt.NDArray[Any]) -> dict[str, Any]:
    return {"name": "X", "datatype": "FP32", "shape": list(batch.shape)}


def _bytes(batch: npt.NDArray[Any]) -> bytes:
    return batch.astype("<f4").tobytes()


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@functools.cache
def by_name(name: str) -> Load:
    """W1 to W4; made when it is asked for, and the same in every run."""
    random = np.random.default_rng(int(name[1:]))
    return {"W1": _numbers, "W2": _picture, "W3": _tensor, "W4": _many_numbers}[name](random)


def _numbers(random: np.random.Generator) -> Load:
    return _affine("W1", "one instance of 16 numbers, JSON", 1, random)


def _many_numbers(random: np.random.Generator) -> Load:
    return _affine("W4", "64 instances of 16 numbers, JSON", 64, random)


def _affine(name: str, title: str, rows: int, random: np.random.Generator) -> Load:
    inputs = [random.uniform(-10, 10, (rows, 16)).round(4) for _ in range(BODIES)]
    return Load(name, title, "affine", "affine", "affine", inputs, [1.5 * batch - 0.25 for batch in inputs])


def _picture(random: np.random.Generator) -> Load:
    files = [jpeg(random) for _ in range(BODIES)]
    title = "one JPEG file of 40 KB, decoded, 224 x 224, normalised"
    return Load("W2", title, "pool", "jpeg", "jpeg", files, [_bands(pixels(file)) for file in files])


def _tensor(random: np.random.Generator) -> Load:
    inputs = [
        (random.random((1, 3, 512, 512), np.float32) * np.float32(number + 1)).astype(np.float32)
        for number in range(BODIES)
    ]
    expected = [batch.sum(axis=(2, 3), dtype=np.float64) for batch in inputs]
    return Load("W3", "one FP32 tensor of 3 MB, binary", "sum3", "sum3", "sum3", inputs, expected)


def jpeg(random: np.random.Generator, width: int = 640, height: int = 480) -> bytes:
    """A JPEG file of about 40 KB: colour gradients, and noise to make it as hard to decode as a photograph."""
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    weights = random.uniform(-1, 1, (3, 2))
    levels = 128 + 100 * np.stack([a * (down - 0.5) + b * (across - 0.5) for a, b in weights], axis=-1)
    noise = random.normal(0, 11, (height // 2, width // 2, 1)).repeat(2, axis=0).repeat(2, axis=1)
    file = io.BytesIO()
    Image.fromarray((levels + noise).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=60)
    return file.getvalue()


def _bands(picture: npt.NDArray[np.float32]) -> Numbers:
    """What the model computes, written differently."""
    rows = picture.astype(np.float64).mean(axis=(0, 2))
    return np.array([[rows[22 * band : 22 * band + 22].mean() for band in range(10)]])
