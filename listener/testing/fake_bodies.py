"""Bodies of the fake Triton's inference calls: the binary data extension, and plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from listener import bf16
from listener.tensors import NUMPY
from listener.testing.fake_model import FakeModel, Tensors


def decode(body: bytes, header_length: int | None) -> tuple[Tensors, dict[str, int]]:
    """The inputs, and for outputs how many classes are asked for.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: the body cannot be read.
    """
    document = orjson.loads(body[:header_length])
    tensors, offset = {}, header_length or 0
    for entry in document["inputs"]:
        datatype, shape = entry["datatype"], entry["shape"]
        if "data" in entry:
            tensors[entry["name"]] = np.array(entry["data"], NUMPY[datatype]).reshape(shape)
            continue
        size = entry["parameters"]["binary_data_size"]
        raw, offset = body[offset : offset + size], offset + size
        if datatype == "BYTES":
            flat: NDArray[Any] = deserialize_bytes_tensor(raw)
        elif datatype == "BF16":
            flat = bf16.unpacked(np.frombuffer(raw, np.uint16))
        else:
            flat = np.frombuffer(raw, NUMPY[datatype])
        tensors[entry["name"]] = flat.reshape(shape)
    asked = document.get("outputs", ())
    return tensors, {entry["name"]: entry.get("parameters", {}).get("classification", 0) for entry in asked}


def encode(said: Mapping[str, str], outputs: Tensors, model: FakeModel, counts: Mapping[str, int]) -> tuple[bytes, int]:
    """The body of an answer with its outputs in binary, and the length of the JSON in front of them."""
    entries, blobs = [], []
    for name, array in outputs.items():
        datatype = model.outputs[name][0]
        if counts.get(name):
            datatype, array = "BYTES", _classes(array, model.labels[name], counts[name], model.max_batch_size > 0)
        raw = _contents(array, datatype)
        blobs.append(raw)
        parameters = {"binary_data_size": len(raw)}
        entries.append({"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": parameters})
    header = orjson.dumps({**said, "outputs": entries})
    return b"".join([header, *blobs]), len(header)


def _contents(array: NDArray[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        return bytes(serialize_byte_tensor(array).item()) if array.size else b""
    made = array.astype(NUMPY[datatype])
    return (bf16.packed(made) if datatype == "BF16" else made).tobytes()


def _classes(array: NDArray[Any], labels: Sequence[str], count: int, batches: bool) -> NDArray[Any]:
    """The best of each row, in Triton's words."""
    rows = array.reshape(len(array) if batches else 1, -1)
    best = np.argsort(-rows, axis=1, kind="stable")[:, :count]
    said = [[f"{row[i]:f}:{i}:{labels[i]}".encode() for i in places] for row, places in zip(rows, best, strict=True)]
    made = np.array(said, np.object_)
    return made if batches else made[0]


def as_json(outputs: Tensors, model: FakeModel) -> list[dict[str, Any]]:
    """The outputs of an answer that is JSON alone."""
    return [
        {"name": name, "datatype": model.outputs[name][0], "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in outputs.items()
    ]
