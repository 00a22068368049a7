"""The prepared encoding against tritonclient's own, both ways."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

from listener.errors import TritonFailed
from listener.tensors import NUMPY, ModelSpec, TensorError, TensorSpec
from listener.triton import codec as under_test
from listener.triton.codec import Codec, Group, Region, Slot

#: Names no inputs, so that tests can send what they like.
SPEC = ModelSpec("m", (), (TensorSpec("Y", "FP32", (2,)), TensorSpec("Z", "FP32", ())), 8)
#: Numbers, and strings that neither JSON nor a terminator would survive.
DTYPES = st.sampled_from(list(NUMPY.values()))
STRINGS = st.one_of(st.binary(max_size=9), st.text(max_size=9), st.sampled_from([b"", b"\0", b"\xff\xfe"]))


def arrays(dtype: np.dtype[Any], shape: tuple[int, ...]) -> st.SearchStrategy[NDArray[Any]]:
    elements = STRINGS if dtype.hasobject else st_numpy.from_dtype(dtype)
    return st_numpy.arrays(dtype, shape, elements=elements)


def knowing(**inputs: str) -> Codec:
    """A codec that has been told of these inputs' datatypes."""
    tensors = tuple(TensorSpec(name, datatype, (-1,)) for name, datatype in inputs.items())
    return Codec(ModelSpec("m", tensors, SPEC.outputs, 8), "h")


def sent(codec: Codec, *groups: Group) -> tuple[bytes, dict[str, str], Any, bytes]:
    """Request line, headers, JSON and binary part; the lengths must be right."""
    head, parts = codec.request(groups)
    assert all(isinstance(part, bytes) or (part.format, part.ndim) == ("B", 1) for part in parts)
    lines, _, said = head.partition(b"\r\n\r\n")
    first, *rest = lines.split(b"\r\n")
    headers = dict(line.decode().split(": ") for line in rest)
    binary = b"".join(parts)
    assert int(headers.pop("Inference-Header-Content-Length")) == len(said)
    assert int(headers.pop("Content-Length")) == len(said) + len(binary)
    return first, headers, json.loads(said), binary


def of_tritonclient(given: dict[str, NDArray[Any]], outputs: list[str]) -> tuple[Any, bytes]:
    inputs = []
    for name, array in given.items():
        tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        inputs.append(tensor.set_data_from_numpy(array))
    wanted = [InferRequestedOutput(name, binary_data=True) for name in outputs]
    body, length = InferenceServerClient.generate_request_body(inputs, outputs=wanted)
    return json.loads(body[:length]), body[length:]


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype.hasobject:
        return (one.dtype, one.shape, one.tolist()) == (other.dtype, other.shape, other.tolist())
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())  # as NaN is not NaN


# Requests


@given(st.data())
def test_requests_say_what_tritonclient_says(data: st.DataObject) -> None:
    names = ["X", "ö", '"', "B"]
    codec = Codec(SPEC, "h:1")
    if data.draw(st.booleans()):
        codec = knowing(**{name: data.draw(st.sampled_from(list(NUMPY))) for name in names})
    for _ in range(2):
        given_arrays: dict[str, NDArray[Any]] = {}
        wanted: dict[str, NDArray[Any]] = {}
        for name in data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True)):
            shape = data.draw(st_numpy.array_shapes(min_dims=0, min_side=0, max_side=4))
            dtype = NUMPY[codec._datatypes[name]] if codec._datatypes else data.draw(DTYPES)
            wanted[name] = given_arrays[name] = data.draw(arrays(dtype, shape))
            if name in codec.bf16:
                given_arrays[name] = np.asarray(np.nan_to_num(given_arrays[name]))  # which NaN it is may differ
                with np.errstate(over="ignore"):
                    wanted[name] = given_arrays[name].astype(ml_dtypes.bfloat16)
        *_, said, binary = sent(codec, *codec.as_sent([given_arrays]))
        assert (said, binary) == of_tritonclient(wanted, ["Y", "Z"])


@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_groups_travel_as_one_batch(data: st.DataObject, rows: list[int]) -> None:
    tails = {"X": (data.draw(DTYPES), (3,)), "B": (data.draw(DTYPES), ()), "C": (data.draw(DTYPES), (2, 0))}
    groups = [
        {name: data.draw(arrays(dtype, (count, *tail))) for name, (dtype, tail) in tails.items()} for count in rows
    ]
    joined = {name: np.concatenate([group[name] for group in groups]) for name in tails}
    *_, said, binary = sent(Codec(SPEC, "h"), *groups)
    assert (said, binary) == of_tritonclient(joined, ["Y", "Z"])


def test_the_lines_before() -> None:
    codec = Codec(ModelSpec("a/b c\r\n", (), (), 0), "host:8000")
    first, headers, said, _ = sent(codec, {"X": np.ones(1, np.int8)})
    assert first == b"POST /v2/models/a%2Fb%20c%0D%0A/infer HTTP/1.1"
    assert headers == {"Host": "host:8000", "Content-Type": "application/octet-stream"}
    assert said["parameters"] == {"binary_data_output": True}  # there is none to name


def test_a_large_tensor_is_sent_from_its_own_memory() -> None:
    array = np.arange(100_000, dtype=np.float16).reshape(2, 50_000)
    _, parts = Codec(SPEC, "h").request([{"X": array}, {"X": array}])
    for part in parts:
        assert isinstance(part, memoryview)
        assert np.shares_memory(np.frombuffer(part, np.uint8), array)
        assert bytes(part) == array.tobytes()


def test_one_that_is_not_in_order_is_put_into_order() -> None:
    array = np.arange(100_000, dtype=np.float64).reshape(2, 50_000).T
    *_, binary = sent(Codec(SPEC, "h"), {"X": array})
    assert binary == array.tobytes()


def test_large_tensors_of_every_datatype() -> None:
    for name, dtype in NUMPY.items():
        if name != "BYTES":
            codec, array = knowing(X=name), np.ones((1, 40_000), dtype)
            *_, said, binary = sent(codec, *codec.as_sent([{"X": array}]))
            contents = array.astype(ml_dtypes.bfloat16) if name == "BF16" else array
            assert (said["inputs"][0]["datatype"], binary) == (name, contents.tobytes())


def test_the_datatype_is_the_models_not_numpys() -> None:
    codec = knowing(A="BF16", B="UINT16", C="FP32")
    one = np.array([[1, 2, 0.1]], np.float32)
    groups = codec.as_sent([{"A": one, "B": one.astype(np.uint16), "C": one}] * 2)
    *_, said, binary = sent(codec, *groups)
    assert [(entry["datatype"], entry["parameters"]["binary_data_size"]) for entry in said["inputs"]] == [
        ("BF16", 12),
        ("UINT16", 12),
        ("FP32", 24),
    ]
    assert binary[:12] == bytes.fromhex("803f0040cd3d") * 2


def test_a_model_without_bf16_sends_what_it_is_given() -> None:
    groups = [{"X": np.ones(1, np.float32)}]
    assert knowing(X="FP32").as_sent(groups) is groups


@pytest.mark.parametrize("offset", [0, 1], ids=["in order", "beside"])
def test_bf16_comes_as_fp32(offset: int) -> None:
    numbers = np.array([[1.5, np.nan, -np.inf]], ml_dtypes.bfloat16)
    body, length = answered({"B": ("UINT8", np.ones(offset, np.uint8)), "Y": ("BF16", numbers)})
    codec = Codec(SPEC, "h")
    for _ in range(2):
        assert same(codec.response(body, length)["Y"], numbers.astype(np.float32))
    in_json = {"outputs": [{"name": "Y", "datatype": "BF16", "shape": [2], "data": [1.5, -2]}]}
    outputs = codec.response(json.dumps(in_json).encode(), None)
    assert same(outputs["Y"], np.array([1.5, -2], np.float32))
    room = memoryview(numbers.tobytes() + b"\0\0")
    assert same(codec.response(placed_answer("BF16", [1, 3]), None, {"Y": room})["Y"], numbers.astype(np.float32))


# Classes


def test_classes_take_the_place_of_labelled_outputs_alone() -> None:
    outputs = (
        TensorSpec("Y", "FP32", (50_000,), labelled=True),
        TensorSpec("Z", "FP32", (50_000,)),
        TensorSpec("S", "BYTES", (1,), labelled=True),  # Triton 2.51 would die of it
    )
    codec = Codec(ModelSpec("m", (), outputs, 8), "h", top_k=3)
    *_, said, _ = sent(codec, {"X": np.ones((1, 1), np.float32)})
    assert said["outputs"] == [
        {"name": "Y", "parameters": {"binary_data": True, "classification": 3}},
        {"name": "Z", "parameters": {"binary_data": True}},
        {"name": "S", "parameters": {"binary_data": True}},
    ]
    assert (codec.largest_output, codec.output_sizes([{"X": np.ones((1, 1))}])) == (0, {})


def test_a_dtype_without_a_name() -> None:
    with pytest.raises(TensorError, match="'X' is >f4"):
        Codec(SPEC, "h").request([{"X": np.ones(1, ">f4")}])


def test_shared_memory_in_place_of_a_tensor() -> None:
    codec = Codec(SPEC, "h")
    other = np.array([[7]], np.int64)
    *_, said, binary = sent(codec, {"X": Region("r", 64, 8, "FP32", (1, 2)), "B": other})
    assert said["inputs"][0] == {
        "name": "X",
        "shape": [1, 2],
        "datatype": "FP32",
        "parameters": {"shared_memory_region": "r", "shared_memory_offset": 64, "shared_memory_byte_size": 8},
    }
    assert binary == other.tobytes()
    *_, moved, binary = sent(codec, {"X": Region("r", 0, 8, "FP32", (1, 2))})
    assert "shared_memory_offset" not in moved["inputs"][0]["parameters"]
    assert binary == b""


def test_outputs_in_shared_memory() -> None:
    codec, given_arrays = Codec(SPEC, "h"), {"X": np.ones((1, 2), np.float32)}
    for offset in (64, 0):  # the place is a part of what is kept
        for _ in range(2):
            head, parts = codec.request([given_arrays], {"Z": Slot("r", offset, 4)})
            said = json.loads(head.partition(b"\r\n\r\n")[2])
            place = {"shared_memory_region": "r", "shared_memory_byte_size": 4}
            place |= {"shared_memory_offset": offset} if offset else {}
            assert said["outputs"] == [
                {"name": "Y", "parameters": {"binary_data": True}},
                {"name": "Z", "parameters": place},
            ]
            assert b"".join(parts) == given_arrays["X"].tobytes()
    *_, said, _ = sent(codec, given_arrays)
    assert [output["parameters"] for output in said["outputs"]] == [{"binary_data": True}] * 2


def test_heads_are_kept_but_not_all_of_them() -> None:
    codec = Codec(SPEC, "h")
    array = np.ones((2, 3), np.float32)
    assert codec.request([{"X": array}])[0] is codec.request([{"X": array[:1]}, {"X": array[:1]}])[0]
    for size in range(1000):
        codec.request([{"X": np.ones(size, np.int8)}])
    assert len(codec._heads) == under_test._KEPT


# Answers


def answered(outputs: dict[str, tuple[str, Any]]) -> tuple[bytes, int]:
    """A body as Triton makes it."""
    entries, blobs = [], []
    for name, (datatype, array) in outputs.items():
        blob = array.tobytes()
        if datatype == "BYTES":
            blob = serialize_byte_tensor(array).item() if array.size else b""
        entry = {
            "name": name,
            "datatype": datatype,
            "shape": array.shape,
            "parameters": {"binary_data_size": len(blob)},
        }
        entries.append(entry)
        blobs.append(blob)
    header = json.dumps({"model_name": "m", "model_version": "1", "outputs": entries}).encode()
    return b"".join([header, *blobs]), len(header)


def as_tritonclient_reads(body: bytes, length: int | None) -> dict[str, NDArray[Any]]:
    result = InferenceServerClient.parse_response_body(body, header_length=length)
    return {output["name"]: result.as_numpy(output["name"]) for output in result.get_response()["outputs"]}


@given(st.data())
def test_answers_are_read_as_tritonclient_reads_them(data: st.DataObject) -> None:
    made = {}
    for name in data.draw(st.lists(st.sampled_from("YZÄ"), unique=True)):
        datatype, dtype = data.draw(st.sampled_from(list(NUMPY.items())))
        shape = data.draw(st_numpy.array_shapes(min_dims=0, min_side=0, max_side=4))
        made[name] = (datatype, data.draw(arrays(np.dtype(np.uint16) if datatype == "BF16" else dtype, shape)))
    body, length = answered(made)
    codec, wanted = Codec(SPEC, "h"), as_tritonclient_reads(body, length)
    for header_length in (length, str(length)):  # the second time from what was kept
        outputs = codec.response(body, header_length)
        assert list(outputs) == list(wanted)
        for name, array in wanted.items():
            assert same(outputs[name], array.astype(np.float32) if made[name][0] == "BF16" else array)
        assert all(array.flags.aligned for array in outputs.values())


@pytest.mark.parametrize("binary", [False, True])
def test_outputs_in_the_json_are_read_too(binary: bool) -> None:
    entries: list[dict[str, Any]] = [
        {"name": "Y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]},
        {"name": "S", "datatype": "BYTES", "shape": [1], "data": ["a"], "parameters": {}},
    ]
    if binary:
        entries.insert(1, {"name": "Z", "datatype": "UINT8", "shape": [3], "parameters": {"binary_data_size": 3}})
    body = json.dumps({"outputs": entries}).encode()
    length = len(body) if binary else None
    body += b"abc" * binary
    outputs, wanted = Codec(SPEC, "h").response(body, length), as_tritonclient_reads(body, length)
    assert list(outputs) == list(wanted)
    assert all(same(outputs[name], wanted[name]) for name in wanted)


GOOD, LENGTH = answered({"Y": ("FP32", np.ones((1, 2), np.float32)), "S": ("BYTES", np.array([b"ab"], np.object_))})


def test_the_good_one_is_good() -> None:
    assert Codec(SPEC, "h").response(GOOD, LENGTH)["S"].tolist() == [b"ab"]


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", None),
        (b"", 0),
        (b"not json", None),
        (b"{}", None),
        (b"[]", None),
        (b'{"outputs":3}', None),
        (b'{"outputs":[3]}', None),
        (b'{"outputs":[{"name":"Y","datatype":"FP32","shape":[1]}]}', None),
        (b'{"outputs":[{"name":"Y","datatype":"FP32","shape":[2],"data":[1]}]}', None),
        (b'{"outputs":[{"name":"Y","datatype":"FP33","shape":[1],"data":[1]}]}', None),
        (GOOD, None),
        (GOOD, "x"),
        (GOOD, -1),
        (GOOD, 10**9),
        (GOOD, LENGTH - 1),
        (GOOD, LENGTH + 1),
        (GOOD[:-1], LENGTH),
        (GOOD + b"x", LENGTH),
        (GOOD[:LENGTH], LENGTH),
        (GOOD[:-6] + b"\xff" + GOOD[-5:], LENGTH),  # a string longer than the body
        (GOOD[:-6] + b"\1" + GOOD[-5:], LENGTH),  # and a shorter one
        (GOOD.replace(b"[1, 2]", b"[1, 3]"), LENGTH),
        (GOOD.replace(b"[1, 2]", b"[-1,2]").replace(b": 8", b":-8"), LENGTH),
        (GOOD.replace(b"[1, 2]", b"[-1,-2]")[:-1], LENGTH + 1),
        (GOOD.replace(b"FP32", b"INT4"), LENGTH),
        (GOOD.replace(b"[1]", b"[2]"), LENGTH),
    ],
)
def test_a_corrupt_answer_is_none(body: bytes, length: Any) -> None:
    codec = Codec(SPEC, "h")
    for _ in range(2):
        with pytest.raises(TritonFailed, match=r"^Triton's answer of model 'm' cannot be read$"):
            codec.response(body, length)


@given(st.integers(0, len(GOOD)), st.binary(max_size=4), st.integers(0, 4), st.integers(-2, len(GOOD) + 2))
def test_no_corruption_is_any_other_error(at: int, new: bytes, gone: int, length: int) -> None:
    codec = Codec(SPEC, "h")
    try:
        codec.response(GOOD, LENGTH)
        codec.response(GOOD[:at] + new + GOOD[at + gone :], length)
    except TritonFailed:
        pass


def test_layouts_are_kept_but_not_all_of_them() -> None:
    codec = Codec(SPEC, "h")
    for size in range(1000):
        codec.response(*answered({"Y": ("INT8", np.ones(size, np.int8))}))
    assert len(codec._layouts) == under_test._KEPT


# Outputs in shared memory


def spec_of(*outputs: TensorSpec, batch: int = 8, independent: bool = True) -> ModelSpec:
    return ModelSpec("m", (TensorSpec("X", "FP32", (2,)),), outputs, batch, independent)


@pytest.mark.parametrize(
    ("output", "row"),
    [
        (TensorSpec("Y", "FP32", (3, 5)), 60),
        (TensorSpec("Y", "BOOL", (3,)), 3),
        (TensorSpec("Y", "FP16", ()), 2),
        (TensorSpec("Y", "INT64", (0, 3)), 0),
        (TensorSpec("Y", "FP32", (3, -1)), None),
        (TensorSpec("Y", "BYTES", (3,)), None),
        (TensorSpec("Y", "BF16", (3,)), 6),
    ],
)
def test_sizes_that_the_configuration_tells(output: TensorSpec, row: int | None) -> None:
    groups = [{"X": np.ones((rows, 2), np.float32)} for rows in (1, 2)]
    codec = Codec(spec_of(output), "h")
    assert codec.output_sizes(groups) == ({} if row is None else {"Y": 3 * row})
    assert codec.largest_output == 8 * (row or 0)
    codec = Codec(spec_of(output, batch=0), "h")
    assert codec.output_sizes(groups[:1]) == ({} if row is None else {"Y": row})
    assert codec.largest_output == (row or 0)


def test_sizes_of_sequences_are_not_used_nor_those_that_were_wrong() -> None:
    output = TensorSpec("Y", "FP32", (3,))
    assert Codec(spec_of(output, independent=False), "h").largest_output == 0
    codec = Codec(spec_of(output), "h")
    codec.forget_sizes()
    assert (codec.largest_output, codec.output_sizes([{"X": np.ones((1, 2), np.float32)}])) == (0, {})


def placed_answer(datatype: str, shape: list[int], more: dict[str, Any] | None = None) -> bytes:
    """All in the JSON, and Y without its data."""
    entries = [{"name": "Y", "datatype": datatype, "shape": shape}, *([more] if more else [])]
    return json.dumps({"model_name": "m", "outputs": entries}).encode()


@pytest.mark.parametrize("spare", [0, 4])
def test_outputs_are_copied_out_of_their_places(spare: int) -> None:
    codec, room = Codec(SPEC, "h"), bytearray(np.arange(4, dtype=np.float32).tobytes() + b"x" * spare)
    for _ in range(2):
        y = codec.response(placed_answer("FP32", [2, 2]), None, {"Y": memoryview(room)})["Y"]
        assert same(y, np.arange(4, dtype=np.float32).reshape(2, 2))
        assert (y.base, y.flags.writeable) == (None, False)
        room.extend(b"x")  # BufferError if anything looked at it still


@pytest.mark.parametrize("in_json", [False, True])
def test_outputs_in_all_places_at_once(in_json: bool) -> None:
    room = memoryview(np.arange(4, dtype=np.float32).tobytes())
    entries: list[dict[str, Any]] = [
        {"name": "A", "datatype": "UINT8", "shape": [3], "parameters": {"binary_data_size": 3}},
        {"name": "Y", "datatype": "FP32", "shape": [4], "parameters": {}},
        {"name": "B", "datatype": "UINT8", "shape": [1], "parameters": {"binary_data_size": 1}},
    ]
    if in_json:
        entries.insert(1, {"name": "J", "datatype": "INT8", "shape": [1], "data": [7]})
    header = json.dumps({"outputs": entries}).encode()
    outputs = Codec(SPEC, "h").response(header + b"abcd", len(header), {"Y": room})
    assert list(outputs) == [entry["name"] for entry in entries]
    assert (outputs["A"].tobytes(), outputs["B"].tobytes(), outputs["Y"].tolist()) == (b"abc", b"d", [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("datatype", "shape"),
    [("FP32", [5]), ("FP64", [4]), ("FP32", [-1]), ("FP32", [-2, -2]), ("FP32", [10**30]), ("BYTES", [1]), ("XY", [1])],
)
def test_outputs_that_do_not_fit_their_places(datatype: str, shape: list[int]) -> None:
    with pytest.raises(TritonFailed, match="cannot be read"):
        Codec(SPEC, "h").response(placed_answer(datatype, shape), None, {"Y": memoryview(bytes(16))})


def test_an_output_that_has_no_place() -> None:
    with pytest.raises(TritonFailed, match="cannot be read"):
        Codec(SPEC, "h").response(placed_answer("FP32", [1]), None, {"Z": memoryview(bytes(16))})
