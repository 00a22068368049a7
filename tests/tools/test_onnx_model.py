"""`listener check` on ONNX files: what they hold, and whether config.pbtxt agrees with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from listener.tools import agreement, model_config, onnx_model
from tests.tools.tiny_service import Tiny, onnx_file
from tests.triton.backends.parts import modules


@pytest.mark.parametrize(
    ("dims", "out", "expected"),
    [
        ((1, 2), ("N", 2), ["tiny/config.pbtxt:3: max_batch_size"]),
        (("N", 2), (1, 2), ["tiny/config.pbtxt:3: max_batch_size"]),
        ((2,), (2,), ["tiny/config.pbtxt:3: max_batch_size"] * 2),
        ((), (), ["tiny/config.pbtxt:3: max_batch_size"] * 2),
        (("N", "M"), ("N", "M"), ['tiny/config.pbtxt:17: output "Y".dims']),
        (("N", 2), ("N", "M"), []),  # onnxruntime infers the 2
        (("N", 2), None, []),
        (("N", 2, 1), ("N", 2, 1), ['tiny/config.pbtxt:10: input "X".dims', 'tiny/config.pbtxt:17: output "Y".dims']),
    ],
)
def test_shapes(tiny: Tiny, dims: Any, out: Any, expected: list[str]) -> None:
    onnx_file(tiny.onnx, dims, out)
    assert [": ".join(place.split(": ")[:2]) for place in tiny.mistakes()] == expected


@pytest.mark.parametrize("dims", ["[ 2 ]", "[ 1 ]", "[ ]", "[ 1, 1 ]"])
def test_a_scalar_for_each_row_says_the_line_that_is_right(tiny: Tiny, dims: str) -> None:
    onnx_file(tiny.onnx, ("N",), ("N",))
    tiny.config.write_text(tiny.config.read_text().replace("[ 2 ]", dims))
    right = "dims: [ 1 ] reshape { shape: [ ] }"
    for kind, mistake in zip(('input "X"', 'output "Y"'), tiny.mistakes(), strict=True):
        assert f"{kind}.dims: is " in mistake
        assert mistake.endswith(f"; one number for each instance is `{right}`")
    tiny.config.write_text(tiny.config.read_text().replace(f"dims: {dims}", right))
    assert tiny.mistakes() == []


def test_a_scalar_where_nothing_is_a_batch(tiny: Tiny) -> None:
    """A shape of its own is not allowed there."""
    onnx_file(tiny.onnx, ("N",), ("N",))
    tiny.change("max_batch_size: 8\ndynamic_batching { }", "max_batch_size: 0")
    # an input may be narrower than the file has it
    assert tiny.mistakes() == ['tiny/config.pbtxt:16: output "Y".dims: is [2], but tiny/1/model.onnx has [-1]']


def test_an_input_that_is_not_declared(tiny: Tiny) -> None:
    onnx_file(tiny.onnx, name="pixels")
    unknown, absent = tiny.mistakes()
    assert unknown.startswith('tiny/config.pbtxt:8: input "X": ')
    assert unknown.endswith("has no such input; it has 'pixels'")
    assert absent.startswith("tiny/config.pbtxt:6: input: 'pixels' is missing, which ")


def test_a_type_that_triton_cannot_carry(tiny: Tiny) -> None:
    onnx_file(tiny.onnx, kind=TensorProto.BFLOAT16)
    starts = [mistake.split(", ")[0] for mistake in tiny.mistakes()]
    assert starts == [f"tiny/1/model.onnx: {kind}: is BFLOAT16" for kind in ('input "X"', 'output "Y"')]


def test_an_output_that_is_no_tensor(tiny: Tiny) -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["X"], ["Y"])],
        "tiny",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_sequence_value_info("Y", TensorProto.FLOAT, None)],
    )
    onnx.save(helper.make_model(graph), tiny.onnx)
    assert tiny.mistakes()[0].startswith(
        'tiny/1/model.onnx: output "Y": is a sequence, and Triton carries only tensors'
    )


def with_default(file: Path, ir_version: int) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["X", "W"], ["Y"])],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("X", "W")],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.zeros((1, 2), np.float32), "W")],
    )
    onnx.save(helper.make_model(graph, ir_version=ir_version), file)


def test_an_input_with_a_default(tiny: Tiny) -> None:
    with_default(tiny.onnx, 8)
    assert tiny.mistakes() == []
    tiny.change("input [", 'input [ { name: "W" data_type: TYPE_FP32 dims: [ 2 ] },')
    (mistake,) = tiny.mistakes()
    assert mistake.startswith('tiny/config.pbtxt:6: input "W".optional: ')
    with_default(tiny.onnx, 3)  # before IR version 4 it is a constant, not an input
    assert tiny.mistakes()[0].startswith('tiny/config.pbtxt:6: input "W": ')


def test_weights_in_a_file_that_is_not_there(tiny: Tiny) -> None:
    with_default(tiny.onnx, 8)
    model = onnx.load(tiny.onnx)
    onnx.save(model, tiny.onnx, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert tiny.mistakes() == []
    (tiny.onnx.parent / "weights.bin").unlink()
    (mistake,) = tiny.mistakes()
    assert mistake.endswith("tiny/1/weights.bin, which does not exist")


def test_weights_are_not_read(tiny: Tiny) -> None:
    data = tiny.onnx.read_bytes()
    weights = TensorProto(name="W", data_type=TensorProto.UINT8, dims=[2**33])
    encoded = weights.SerializeToString() + b"\x4a" + _varint(2**33)  # raw_data of 8 GiB
    graph = b"\x2a" + _varint(len(encoded) + 2**33) + encoded
    with tiny.onnx.open("wb") as stream:  # a second part of the graph; protobuf joins them
        stream.write(data + b"\x3a" + _varint(len(graph) + 2**33) + graph)
        stream.truncate(stream.tell() + 2**33)  # sparse: it takes no room
    assert tiny.mistakes() == []


def _varint(value: int) -> bytes:
    *head, last = [(value >> shift) & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(byte | 128 for byte in head), last])


@pytest.fixture(scope="module")
def ort_config() -> Iterator[ModuleType]:
    """The check that the backend does when it loads a model."""
    with modules("onnxruntime", "ort_config") as (module,):
        yield module


SIZES = st.sampled_from([1, 2, "N"])
SHAPES = st.lists(SIZES, min_size=1, max_size=3)
DECLARED = st.lists(st.sampled_from([-1, 1, 2]), min_size=1, max_size=3)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=SHAPES,
    dims=DECLARED,
    out_dims=DECLARED,
    batch=st.sampled_from([0, 4]),
    listed=st.sampled_from(["io", "i", "o"]),
)
def test_agrees_with_the_backend(
    tiny: Tiny, ort_config: ModuleType, shape: Any, dims: list[int], out_dims: list[int], batch: int, listed: str
) -> None:
    onnx_file(tiny.onnx, shape, shape)
    entry = '{ name: "%s" data_type: TYPE_FP32 dims: %s }\n'
    text = f"max_batch_size: {batch}\n"
    text += "input " + entry % ("X", dims) if "i" in listed else ""
    text += "output " + entry % ("Y", out_dims) if "o" in listed else ""
    tiny.config.write_text(text)
    ours = [*agreement.check(model_config.read(tiny.config), onnx_model.read(tiny.onnx, []))]
    given_dims = [("input", "X", dims), ("output", "Y", out_dims)]
    config: dict[str, Any] = {"max_batch_size": batch} | {
        kind: [{"name": name, "data_type": "TYPE_FP32", "dims": sizes}] if kind[0] in listed else []
        for kind, name, sizes in given_dims
    }
    full = tuple(size if isinstance(size, int) else -1 for size in shape)
    tensors = [{name: ort_config.TensorSpec(name, "TYPE_FP32", full)} for name in "XY"]
    signature = ort_config.Signature("tiny", "model.onnx", tensors[0], {}, tensors[1])
    try:
        ort_config.complete(config, signature, 4)
        ort_config.check(config, signature)
        assert ours == []
    except ort_config.LoadError:
        assert ours != []
