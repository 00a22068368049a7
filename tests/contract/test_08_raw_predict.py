"""Contract, item 8: rawPredict, whose body and headers reach the predict route as the caller sent them.

Open Inference Protocol in JSON and with binary tensors, the media type and the redirect header of Triton's Vertex
frontend, and bodies that are one instance or one array.
"""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.contract.target import Answer, Target, refused

pytestmark = pytest.mark.triton

#: Triton's media type for a JSON head with tensors behind it; its length follows.
MIME = "application/vnd.vertex-ai-triton.binary+json;json-header-size="
LENGTH = "Inference-Header-Content-Length"
REDIRECT = "X-Vertex-Ai-Triton-Redirect"

X: NDArray[np.float32] = np.array([[0.5, -1, 2]], "<f4")


def json_request(array: NDArray[Any] = X, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    """An inference of a model with the one input X."""
    tensor = {"name": "X", "shape": list(array.shape), "datatype": datatype, "data": array.reshape(-1).tolist()}
    return {"inputs": [tensor], **more}


def binary_request(array: NDArray[Any] = X, datatype: str = "FP32", **more: Any) -> tuple[bytes, bytes]:
    """The same, as a head and the bytes behind it."""
    size = {"binary_data_size": array.nbytes}
    tensor = {"name": "X", "shape": list(array.shape), "datatype": datatype, "parameters": size}
    return json.dumps({"inputs": [tensor], **more}).encode(), array.tobytes()


def outputs(answer: Answer) -> dict[str, Any]:
    """The outputs of an inference in JSON, by name."""
    assert (answer.status, answer.media_type) == (200, "application/json"), answer
    return {output["name"]: output for output in answer.json()["outputs"]}


def binary_output(answer: Answer, dtype: str = "<f4") -> NDArray[Any]:
    """The only output of an inference, which came as bytes."""
    assert (answer.status, answer.media_type) == (200, "application/octet-stream"), answer
    size = int(answer.header(LENGTH) or "")
    (output,) = json.loads(answer.body[:size])["outputs"]
    assert "data" not in output
    content = answer.body[size:]
    assert output["parameters"]["binary_data_size"] == len(content)
    return np.frombuffer(content, dtype).reshape(output["shape"])


# Open Inference Protocol in JSON


def test_a_request_in_json_is_answered_by_the_default_model(target: Target) -> None:
    answer = target.predict(json_request(id="42"))
    document = answer.json()
    assert (document["model_name"], document["model_version"], document["id"]) == ("identity_fp32", "1", "42")
    assert outputs(answer) == {"Y": {"name": "Y", "datatype": "FP32", "shape": [1, 3], "data": [0.5, -1.0, 2.0]}}


def test_a_request_in_json_chooses_its_model(target: Target) -> None:
    answer = target.predict(json_request(np.ones((1, 2, 3), "<f4"), parameters={"model": "matrix"}))
    assert answer.json()["model_name"] == "matrix"
    assert outputs(answer)["Y"]["data"] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("version", [1, "1", 2, "2"])
def test_a_request_in_json_chooses_its_version(target: Target, version: Any) -> None:
    parameters = {"model": "versions", "version": version}
    answer = target.predict(json_request(np.ones((1, 1), "<f4"), parameters=parameters))
    assert answer.json()["model_version"] == str(version)
    assert outputs(answer)["Y"]["data"] == [float(version)]


def test_an_unknown_model_in_json_is_400(target: Target) -> None:
    refused(target.predict(json_request(parameters={"model": "nothing"})), 400)


def test_several_tensors_and_a_choice_of_outputs(target: Target) -> None:
    tensors = [
        {"name": name, "shape": [1, 4], "datatype": "INT32", "data": data}
        for name, data in (("A", [1, 2, 3, 4]), ("B", [[4, 3, 2, 1]]))
    ]
    request = {"inputs": tensors, "outputs": [{"name": "DIFFERENCE"}], "parameters": {"model": "add_sub"}}
    assert {name: output["data"] for name, output in outputs(target.predict(request)).items()} == {
        "DIFFERENCE": [-3, -1, 1, 3]
    }


def test_text_in_json(target: Target) -> None:
    tensor = {"name": "X", "shape": [2, 1], "datatype": "BYTES", "data": ["one", "\u2713"]}
    answer = target.predict({"inputs": [tensor], "parameters": {"model": "upper"}})
    assert outputs(answer)["Y"]["data"] == ["ONE", "\u2713"]


def test_a_request_in_json_may_ask_for_bytes(target: Target) -> None:
    wanted = [{"name": "Y", "parameters": {"binary_data": True}}]
    assert binary_output(target.predict(json_request(outputs=wanted))).tolist() == X.tolist()
    everything = {"binary_data_output": True}
    assert binary_output(target.predict(json_request(parameters=everything))).tolist() == X.tolist()


@pytest.mark.parametrize("content_type", [None, "application/json", "application/json; charset=utf-8", "text/json"])
def test_media_types_of_a_request_in_json(target: Target, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = target.post(target.predict_route, json.dumps(json_request()).encode(), headers)
    if content_type == "text/json":  # neither JSON's media type nor one of its kind
        refused(answer, 400)
    else:
        assert outputs(answer)["Y"]["data"] == [0.5, -1.0, 2.0]


@pytest.mark.parametrize(
    "request_",
    [
        json_request(np.ones((1, 2, 2), "<f4")),
        json_request(datatype="INT32"),
        {"inputs": [{"name": "Z", "shape": [1, 1], "datatype": "FP32", "data": [1]}]},
        {"inputs": [{"name": "X", "shape": [1, 3], "datatype": "FP32", "data": [1]}]},
        {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32"}]},
        {"inputs": [{"name": "X", "shape": [1, -1], "datatype": "FP32", "data": [1]}]},
        {"inputs": [{"name": "X", "shape": "1", "datatype": "FP32", "data": [1]}]},
        {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP99", "data": [1]}]},
        {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": ["one"]}]},
        {"inputs": [{"name": 5, "shape": [1, 1], "datatype": "FP32", "data": [1]}]},
        json_request(outputs=[{"name": "Z"}]),
        json_request(outputs="Y"),
        json_request(id=5),
        json_request(parameters=[]),
    ],
)
def test_what_triton_cannot_read_is_the_callers_mistake(target: Target, request_: dict[str, Any]) -> None:
    """Triton calls some of these an internal error, 500."""
    refused(target.predict(request_), 400)
    refused(target.post("/v2/models/identity_fp32/infer", request_), 400)


# The binary extension


def head(array: NDArray[Any] = X, **more: Any) -> str:
    return str(len(binary_request(array, **more)[0]))


@pytest.mark.parametrize("content_type", ["application/octet-stream", None, "application/json"])
def test_a_binary_request_by_its_header(target: Target, content_type: str | None) -> None:
    headers = {LENGTH: head()} | ({} if content_type is None else {"Content-Type": content_type})
    answer = target.post(target.predict_route, b"".join(binary_request()), headers)
    assert outputs(answer)["Y"]["data"] == [0.5, -1.0, 2.0]


def test_a_binary_request_by_its_media_type(target: Target) -> None:
    answer = target.post(target.predict_route, b"".join(binary_request()), {"Content-Type": MIME + head()})
    assert outputs(answer)["Y"]["data"] == [0.5, -1.0, 2.0]


@pytest.mark.parametrize("way", ["header", "MIME"])
def test_a_binary_answer(target: Target, way: str) -> None:
    content, tensors = binary_request(parameters={"binary_data_output": True})
    length = str(len(content))
    headers = {"Content-Type": MIME + length} if way == "MIME" else {LENGTH: length}
    answer = target.post(target.predict_route, content + tensors, headers)
    assert binary_output(answer).tolist() == X.tolist()


def test_a_binary_request_chooses_its_model(target: Target) -> None:
    content, tensors = binary_request(np.ones((1, 1), "<f4"), parameters={"model": "versions", "version": 1})
    answer = target.post(target.predict_route, content + tensors, {LENGTH: str(len(content))})
    assert (answer.json()["model_name"], answer.json()["model_version"]) == ("versions", "1")


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        ("FP16", np.array([[1, 0.1]], "<f2")),
        ("BF16", np.array([[0x3F80, 0x7FC0]], "<u2")),
        ("INT8", np.array([[-1, 1]], "i1")),
        ("UINT64", np.array([[2**64 - 1]], "<u8")),
        ("BOOL", np.array([[True, False]])),
        ("FP64", np.array([[float("nan"), float("inf")]], "<f8")),
    ],
)
def test_datatypes_in_bytes(target: Target, datatype: str, array: NDArray[Any]) -> None:
    model = f"identity_{datatype.lower()}"
    content, tensors = binary_request(array, datatype, parameters={"model": model, "binary_data_output": True})
    answer = target.post(target.predict_route, content + tensors, {LENGTH: str(len(content))})
    assert binary_output(answer, array.dtype.str).tobytes() == array.tobytes()


def test_bytes_in_bytes(target: Target) -> None:
    """Each element behind its length."""
    elements = b"".join(struct.pack("<I", len(item)) + item for item in (b"one", b"", b"\xff\x00"))
    tensor = {"name": "X", "shape": [1, 3], "datatype": "BYTES", "parameters": {"binary_data_size": len(elements)}}
    parameters = {"model": "identity_bytes", "binary_data_output": True}
    content = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    answer = target.post(target.predict_route, content + elements, {LENGTH: str(len(content))})
    assert answer.status == 200
    assert answer.body[int(answer.header(LENGTH) or "") :] == elements


def test_a_head_of_the_whole_body(target: Target) -> None:
    body = json.dumps(json_request()).encode()
    for headers in ({LENGTH: str(len(body))}, {"Content-Type": MIME + str(len(body))}):
        assert outputs(target.post(target.predict_route, body, headers))["Y"]["data"] == [0.5, -1.0, 2.0]


@pytest.mark.parametrize("headers", [{LENGTH: "0"}, {LENGTH: "0", "Content-Type": "application/octet-stream"}])
def test_a_head_of_nothing_is_one_raw_tensor(target: Target, headers: dict[str, str]) -> None:
    """As in Triton: of the only input, one row; every output as bytes."""
    answer = target.post(target.predict_route, X.tobytes(), headers)
    assert binary_output(answer).tolist() == X.tolist()


def test_a_head_of_nothing_by_the_media_type_is_one_raw_tensor(target: Target) -> None:
    answer = target.post(target.predict_route, X.tobytes(), {"Content-Type": MIME + "0"})
    assert binary_output(answer).tolist() == X.tolist()


#: Lengths that must not be forwarded; some of them kill newer versions of Triton.
BAD_LENGTHS = [
    "abc",
    "0x10",
    "1e2",
    "104.0",
    "104x",
    "-1",
    "-0x1",
    "{more}",
    "2147483647",
    "2147483648",
    "4294967296",
    "9223372036854775808",
    "99999999999999999999",
    "-99999999999999999999",
    "\u0661\u0660\u0664",
    "1_0",
    "12,",
    "104 104",
    "nan",
]


@pytest.mark.parametrize("length", BAD_LENGTHS)
@pytest.mark.parametrize("way", ["header", "MIME", "V2"])
def test_a_length_that_cannot_be(target: Target, way: str, length: str) -> None:
    body = b"".join(binary_request())
    value = length.format(more=len(body) + 1)
    name, text = ("Content-Type", MIME + value) if way == "MIME" else (LENGTH, value)
    path = "/v2/models/identity_fp32/infer" if way == "V2" else target.predict_route
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", f"{name}: {text}"]
    sent = "\r\n".join([*lines, "", ""]).encode()
    refused(target.raw(sent + body), 400)
    assert target.health() == 200


def test_two_lengths_are_400(target: Target) -> None:
    """Whose first or second is right would be for another server to decide otherwise."""
    body = b"".join(binary_request())
    lines = [f"POST {target.predict_route} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{LENGTH}: {head()}", f"{LENGTH}: 5"]
    refused(target.raw("\r\n".join([*lines, "", ""]).encode() + body), 400)


@pytest.mark.parametrize(
    "content_type",
    [
        "x" + MIME + "{n}",
        "text/plain; " + MIME + "{n}",
        "application/json, " + MIME + "{n}",
        MIME,
        MIME + ";",
        MIME + '"{n}"',
        MIME + "={n}",
        "application/vnd.vertex-ai-triton.binary+json;json-header-size",
    ],
)
def test_a_media_type_that_does_not_begin_or_end_so(target: Target, content_type: str) -> None:
    answer = target.post(
        target.predict_route, b"".join(binary_request()), {"Content-Type": content_type.format(n=head())}
    )
    refused(answer, 400)


def test_a_head_cut_short_is_400(target: Target) -> None:
    body = b"".join(binary_request())
    for length in (1, int(head()) - 1, int(head()) + 1):
        refused(target.post(target.predict_route, body, {LENGTH: str(length)}), 400)


@pytest.mark.parametrize("size", [0, 4, 8, 16, 2**31, 2**40, -12, 2**70, 12.5, "12"])
def test_a_tensor_of_another_size_than_it_says_is_400(target: Target, size: Any) -> None:
    content, tensors = binary_request()
    content = content.replace(b'"binary_data_size": 12', f'"binary_data_size": {json.dumps(size)}'.encode())
    refused(target.post(target.predict_route, content + tensors, {LENGTH: str(len(content))}), 400)


def test_bytes_left_over_are_400(target: Target) -> None:
    content, tensors = binary_request()
    refused(target.post(target.predict_route, content + tensors + b"more", {LENGTH: str(len(content))}), 400)


# The redirect header of Triton's Vertex frontend


def redirected(target: Target, path: str, body: bytes = b"", method: str = "POST", **headers: str) -> Answer:
    return target.request(method, target.predict_route, body, {REDIRECT: path, **headers})


#: Each path that is served, and what its answer has in it.
SERVED: dict[str, bytes] = {
    "metrics": b"nv_inference_request_success",
    "v2": b'"extensions"',
    "v2/health/live": b"",
    "v2/health/ready": b"",
    "v2/models/stats": b'"model_stats"',
    "v2/models/matrix": b'"platform"',
    "v2/models/matrix/versions/1": b'"platform"',
    "v2/models/matrix/ready": b"",
    "v2/models/matrix/versions/1/ready": b"",
    "v2/models/matrix/config": b'"max_batch_size":8',
    "v2/models/matrix/versions/1/config": b'"max_batch_size":8',
    "v2/models/matrix/stats": b'"model_stats"',
    "v2/models/matrix/versions/1/stats": b'"model_stats"',
    "v2/systemsharedmemory/status": b"[",
    "v2/cudasharedmemory/status": b"[",
    "v2/repository/index": b'"state":"READY"',
}


@pytest.mark.parametrize(("path", "words"), SERVED.items())
def test_a_redirect_that_is_served(target: Target, path: str, words: bytes) -> None:
    answer = redirected(target, path)
    assert answer.status == 200
    assert words in answer.body
    if words.startswith((b'"', b"[")):
        answer.json()


@pytest.mark.parametrize("path", ["v2/models/matrix/infer", "v2/models/matrix/versions/1/infer"])
@pytest.mark.parametrize("form", ["JSON", "header", "MIME"])
def test_a_redirected_inference(target: Target, path: str, form: str) -> None:
    array = np.ones((1, 2, 3), "<f4")
    content, tensors = binary_request(array)
    body, headers = {
        "JSON": (json.dumps(json_request(array)).encode(), {"Content-Type": "application/json"}),
        "header": (content + tensors, {LENGTH: str(len(content))}),
        "MIME": (content + tensors, {"Content-Type": MIME + str(len(content))}),
    }[form]
    answer = redirected(target, path, body, **headers)
    assert answer.json()["model_name"] == "matrix"
    assert outputs(answer)["Y"]["data"] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("way", ["header", "MIME"])
def test_the_length_of_a_redirected_inference_is_checked_too(target: Target, way: str) -> None:
    headers = {LENGTH: "2147483648"} if way == "header" else {"Content-Type": MIME + "2147483648"}
    answer = redirected(target, "v2/models/identity_fp32/infer", b"".join(binary_request()), **headers)
    refused(answer, 400)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("v2/models/nothing", 404),
        ("v2/models/nothing/config", 404),
        ("v2/models/nothing/ready", 400),
        ("v2/models/nothing/stats", 400),
        ("v2/models/matrix/versions/7", 404),
        ("v2/systemsharedmemory/region/nothing/status", 404),
        ("v2/cudasharedmemory/region/nothing/status", 404),
    ],
)
def test_the_status_of_a_redirect_is_tritons(target: Target, path: str, status: int) -> None:
    refused(redirected(target, path), status)


@pytest.mark.parametrize(
    "path",
    [
        "v2/repository/models/matrix/load",
        "v2/repository/models/matrix/unload",
        "v2/repository/models/nothing/load",
        "v2/systemsharedmemory/region/r/register",
        "v2/systemsharedmemory/region/r/unregister",
        "v2/systemsharedmemory/unregister",
        "v2/cudasharedmemory/region/r/register",
        "v2/cudasharedmemory/region/r/unregister",
        "v2/cudasharedmemory/unregister",
    ],
)
def test_a_redirect_that_would_change_triton_is_403(target: Target, path: str) -> None:
    """In Triton since March 2026; 2.51 obeys."""
    refused(redirected(target, path, b'{"key": "/x", "byte_size": 1}'), 403)


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "/v2",
        "v2/",
        "v2/nothing",
        "V2",
        "v2/models",
        "v2/models/",
        "v2/models/matrix/",
        "v2//models/matrix",
        "v2/models/matrix/infer/",
        "v2/models/matrix/generate",
        "v2/models/matrix/generate_stream",
        "v2/models/matrix/trace/setting",
        "v2/models/matrix/versions/one",
        "v2/models/matrix/infer?a=b",
        "v2/health",
        "v2/logging",
        "v2/trace/setting",
        "v2/repository",
        "v2/repository/index/",
        "v2/repository/models/matrix",
        "v2/repository/models/matrix/load/",
        "v2/systemsharedmemory",
        "metrics/",
        "http://127.0.0.1/v2",
        "%76%32",
        "v2#",
        "../v2",
        "v2/./health/live",
        "v2/models/../models/matrix",
    ],
)
def test_a_redirect_to_anything_else_is_400(target: Target, path: str) -> None:
    refused(redirected(target, path), 400)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["v2", "v2/models/matrix/infer", "v2/repository/models/matrix/load", "nothing"])
def test_a_redirect_that_is_no_post_is_405(target: Target, method: str, path: str) -> None:
    refused(redirected(target, path, b"", method), 405)


# One instance, or one array, as it is


def test_one_raw_tensor_is_one_instance(target: Target) -> None:
    answer = target.predict(X.tobytes(), Content_Type="application/octet-stream")
    assert (answer.status, answer.json()) == (200, {"predictions": [[0.5, -1.0, 2.0]]})


def test_one_raw_tensor_of_a_model_by_its_path(target: Target) -> None:
    body = np.ones((2, 3), "<f4").tobytes()
    answer = target.post("/v1/models/matrix:predict", body, {"Content-Type": "application/octet-stream"})
    assert (answer.status, answer.json()) == (200, {"predictions": [[2.0, 2.0, 2.0]]})


@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/png", "image/jpeg; q=1", "audio/wav"])
@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"text"])
def test_any_other_media_type_is_one_element_of_bytes(target: Target, content: bytes, content_type: str) -> None:
    answer = target.post("/v1/models/picture:predict", content, {"Content-Type": content_type})
    assert answer.status == 200
    (prediction,) = answer.json()["predictions"]
    assert prediction["SIZE"] == [len(content)]


@pytest.mark.parametrize("path", ["{predict}", "/v1/models/add_sub:predict", "/v1/models/matrix:predict"])
def test_a_picture_for_a_model_that_takes_none_is_400(target: Target, path: str) -> None:
    answer = target.post(path.format(predict=target.predict_route), b"\x89PNG", {"Content-Type": "image/png"})
    refused(answer, 400)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("{predict}", b"12345"),
        ("/v1/models/matrix:predict", b"\0" * 20),
        ("/v1/models/add_sub:predict", b"\0" * 16),
    ],
)
def test_raw_bytes_that_are_no_tensor_are_400(target: Target, path: str, body: bytes) -> None:
    answer = target.post(path.format(predict=target.predict_route), body, {"Content-Type": "application/octet-stream"})
    refused(answer, 400)


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype == np.object_)
    return file.getvalue()


NPY = "application/x-npy"


def test_an_array_with_a_batch_is_as_many_instances(target: Target) -> None:
    array = np.arange(6, dtype="<f4").reshape(3, 2)
    answer = target.predict(npy(array), Content_Type=NPY)
    assert (answer.status, answer.json()) == (200, {"predictions": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]})


def test_an_array_without_a_batch_is_one_instance(target: Target) -> None:
    body = npy(np.ones((2, 3), "<f4"))
    answer = target.post("/v1/models/matrix:predict", body, {"Content-Type": NPY})
    assert (answer.status, answer.json()) == (200, {"predictions": [[2.0, 2.0, 2.0]]})


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_an_array_for_an_array(target: Target, dtype: str, order: Any) -> None:
    array = np.arange(12, dtype=dtype).reshape(2, 2, 3)
    answer = target.post(
        "/v1/models/matrix:predict",
        npy(np.array(array, order=order)),
        {"Content-Type": NPY, "Accept": NPY},
    )
    assert (answer.status, answer.media_type) == (200, NPY)
    made = np.load(io.BytesIO(answer.body))
    assert made.dtype == np.float32
    assert made.tolist() == array.sum(axis=1).tolist()


def test_what_json_cannot_say_comes_back_in_an_array(target: Target) -> None:
    body = json.dumps({"instances": [["NaN", "Infinity", "-Infinity", 1]]}).encode()
    answer = target.predict(body, Content_Type="application/json", Accept=NPY)
    assert (answer.status, answer.media_type) == (200, NPY)
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.body)), [[np.nan, np.inf, -np.inf, 1]])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
        b"\x93NUMPY\x01\x00\xff\xff" + b" " * 100,
        npy(np.arange(3, dtype="<f4"))[:-1],
        npy(np.arange(3, dtype="<f4")) + b"more",
        npy(np.array([{"an": "object"}], np.object_)),
        npy(np.array(["text"])),
        npy(np.zeros(3, "<c8")),
        npy(np.zeros(3, "<f4")).replace(b"(3,)", b"(3, 99999999999, 99999999999)"),
        npy(np.zeros(3, "<f4")).replace(b"'<f4'", b"exit()"),
        npy(np.zeros((), "<f4")),
        npy(np.zeros((2, 2, 2), "<f4")),
    ],
)
def test_what_is_no_array_for_the_model_is_400(target: Target, body: bytes) -> None:
    """Pickled objects among them: reading one would run its code."""
    refused(target.predict(body, Content_Type=NPY), 400)
