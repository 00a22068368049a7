"""What a body on the predict route may be: docs/reference/contract.md, "Bodies", "Which model" and "Columns"."""

from __future__ import annotations

import base64
import gzip
import io
import zlib
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from tests.endpoints.caller import calling
from tests.endpoints.conftest import Serve, Served

NPY = "application/x-npy"
VENDOR = "application/vnd.vertex-ai-triton.binary+json;json-header-size="


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def loaded(body: bytes) -> NDArray[Any]:
    return np.asarray(np.load(io.BytesIO(body), allow_pickle=False))


def oip(**more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}], **more}


def binary(**more: Any) -> tuple[bytes, int]:
    entry = {"name": "X", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    header = orjson.dumps({"inputs": [entry], **more})
    return header + np.array([1, 2], "<f4").tobytes(), len(header)


# Which model

DOUBLED = {"predictions": [[2.0, 4.0]]}


@pytest.mark.parametrize("parameters", [None, {}, {"model": "plain"}, {"model": "twice"}, {"model": None}])
async def test_a_route_a_model_or_the_default(served: Served, parameters: Any) -> None:
    assert await served.predict({"instances": [[1, 2]], "parameters": parameters}) == (200, DOUBLED)
    assert len(served.triton.asked_for("/v2/models/twice/infer")) == 1


@pytest.mark.parametrize("version", [2, "2", 2.0, "02"])
async def test_a_version(served: Served, version: Any) -> None:
    assert await served.predict({"instances": [[1, 2]], "parameters": {"version": version}}) == (200, DOUBLED)
    assert len(served.triton.asked_for("/v2/models/twice/versions/2/infer")) == 1


async def test_a_handler_knows_the_version_and_its_model_is_that(served: Served) -> None:
    body = {"instances": [1], "parameters": {"model": "once", "version": 10}}
    assert await served.predict(body) == (200, {"predictions": [[True, "10", "list"]]})


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"model": "no"}, "parameters.model: no route or model 'no'; there are 'plain', 'media', 'telling', 'once', "),
        ({"model": 5}, "parameters.model is not the name of a route or model"),
        ({"version": 3}, "parameters.version: model 'twice' has no version 3; it has 1, 2, 10"),
        ({"version": "1.5"}, "parameters.version is not the number of a version"),
        ({"version": {}}, "parameters.version is not the number of a version"),
    ],
)
async def test_a_body_that_names_none_is_400(served: Served, parameters: Any, sentence: str) -> None:
    status, body = await served.predict({"instances": [[1, 2]], "parameters": parameters})
    assert status == 400
    assert body["error"].startswith(sentence)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/twice:predict",
        "/v1/models/plain:predict",
        "/v1/models/twice/versions/2:predict",
        "/v1/models/plain/versions/02:predict",
        "/v1/models/t%77ice:predict",
    ],
)
async def test_a_path_names_it_whatever_the_body_says(served: Served, path: str) -> None:
    for parameters in ({}, {"model": "pair"}):
        assert await served.predict({"instances": [[1, 2]], "parameters": parameters}, path) == (200, DOUBLED)
    version = "/versions/2" if "versions" in path else ""
    assert len(served.triton.asked_for(f"/v2/models/twice{version}/infer")) == 2


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/v1/models/no:predict", "no route or model 'no'; there are 'plain', "),
        ("/v1/models/twice/versions/3:predict", "model 'twice' has no version 3; it has 1, 2, 10"),
        ("/v1/models/%FF:predict", "no route or model "),
    ],
)
async def test_a_path_that_names_none_is_404(served: Served, path: str, sentence: str) -> None:
    status, body = await served.predict({"instances": [[1, 2]]}, path)
    assert status == 404
    assert body["error"].startswith(sentence)


async def test_a_models_name_may_have_any_characters(served: Served) -> None:
    """It is decoded once."""
    body = {"instances": [[1, 2]], "parameters": {"model": "a b%ä"}}
    assert await served.predict(body) == (200, DOUBLED)
    assert len(served.triton.asked_for("/v2/models/a%20b%25%C3%A4/infer")) == 1
    assert await served.predict(body, "/v1/models/a%20b%25%C3%A4:predict") == (200, DOUBLED)
    status, _ = await served.predict(body, "/v1/models/a%2520b%2525%25C3%25A4:predict")
    assert status == 404


async def test_a_model_that_is_not_ready_is_503(served: Served) -> None:
    served.triton.models["pair"].ready = False
    served.triton.fail_with = 400
    status, body = await served.predict({"instances": [{"A": [1], "B": [2]}], "parameters": {"model": "pair"}})
    assert (status, body) == (503, {"error": "model 'pair' is not ready"})


# Columns


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        ("twice", [[1, 2], [3, 4]], [[2, 4], [6, 8]]),
        ("twice", {"X": [[1, 2], [3, 4]]}, [[2, 4], [6, 8]]),
        ("pair", {"A": [[1], [2]], "B": [[3], [4]]}, {"SUM": [[4], [6]], "DIFF": [[-2], [-2]]}),
        ("matrix", [[1, 2], [3, 4], [5, 6]], [9, 12]),
        ("matrix", {"X": [[1, 2], [3, 4]]}, [4, 6]),
        ("whole", {"A": [1, 2, 3], "B": [4, 5, 6]}, {"SUM": [21], "A": [1, 2, 3]}),
        ("whole", {"A": [1, 2, 3], "B": [4]}, {"SUM": [10], "A": [1, 2, 3]}),
        ("whole", {"A": [1], "B": [4, 5, 6, 7]}, {"SUM": [23], "A": [1]}),
        ("text", [["a"], ["b"]], [["a"], ["b"]]),
    ],
)
async def test_columns_in_columns_out(served: Served, model: str, inputs: Any, outputs: Any) -> None:
    status, body = await served.predict({"inputs": inputs, "parameters": {"model": model}})
    assert (status, body) == (200, {"outputs": outputs})


async def test_the_tensors_of_a_model_that_does_not_batch_need_not_have_anything_in_common(served: Served) -> None:
    status, body = await served.predict({"inputs": {"A": [1, 2], "B": []}, "parameters": {"model": "whole"}})
    assert (status, body) == (200, {"outputs": {"SUM": [3], "A": [1, 2]}})


@pytest.mark.parametrize(
    ("model", "inputs", "sentence"),
    [
        ("twice", [], "'inputs' is empty; its leading dimension is the batch"),
        ("pair", {}, "'inputs' is empty; name at least one input"),
        ("pair", {"A": [[1], [2]], "B": [[1]]}, "'inputs' has 2 rows of 'A' and 1 of 'B'; all need as many"),
        ("pair", {"A": [[1]]}, "instances[0]: input 'B' is missing"),
        ("twice", [[1, 2], [1]], "instances[1]: input 'X' has shape [1]; the model takes [2]"),
        ("once", [], "'inputs' is empty; its leading dimension is the batch"),
        ("telling", [], "'inputs' is empty; its leading dimension is the batch"),
        ("talk", [], "'inputs' is empty; its leading dimension is the batch"),
    ],
)
async def test_columns_that_are_none_are_400(served: Served, model: str, inputs: Any, sentence: str) -> None:
    status, body = await served.predict({"inputs": inputs, "parameters": {"model": model}})
    assert (status, body) == (400, {"error": sentence})


async def test_handlers_see_rows(served: Served) -> None:
    body = {"inputs": {"A": [1, 2]}, "parameters": {"model": "once"}}
    assert await served.predict(body) == (200, {"outputs": [[True, "", "list"]] * 2})
    telling = {"inputs": [["a", "b"], ["c"]], "parameters": {"model": "telling"}}
    assert await served.predict(telling) == (200, {"outputs": [["a", "b"], ["c"]]})


# npy


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
async def test_an_array_has_an_instance_in_each_row(served: Served, dtype: str) -> None:
    sent = saved(np.array([[1, 2], [3, 4], [5, 6]], dtype))
    status, body = await served.ask("POST", "/predict", data=sent, headers={"Content-Type": NPY})
    assert (status, body) == (200, {"predictions": [[2, 4], [6, 8], [10, 12]]})


async def test_an_array_is_answered_by_one_if_that_is_asked_for(served: Served) -> None:
    sent, headers = saved(np.array([[0.1, 2]], np.float32)), {"Content-Type": NPY, "Accept": NPY}
    status, head, body = await served.told("POST", "/predict", data=sent, headers=headers)
    assert (status, head["content-type"]) == (200, NPY)
    assert loaded(body).dtype == np.float32
    np.testing.assert_array_equal(loaded(body), np.array([[0.2, 4]], np.float32))


async def test_so_is_json(served: Served) -> None:
    document = {"instances": [[1, 2], [3, 4]]}
    for accept in (NPY, f"application/json, {NPY};q=0.5"):
        status, head, body = await served.told("POST", "/predict", json=document, headers={"Accept": accept})
        assert (status, head["content-type"]) == (200, NPY)
        np.testing.assert_array_equal(loaded(body), [[2, 4], [6, 8]])
    for accept in ("*/*", f"{NPY};q=0, */*", "application/json"):
        assert await served.predict(document, Accept=accept) == (200, {"predictions": [[2, 4], [6, 8]]})


async def test_whole_outputs_are_an_array_without_a_dimension_for_instances(served: Served) -> None:
    document = {"inputs": [[1, 2], [3, 4]], "parameters": {"model": "matrix"}}
    _, head, body = await served.told("POST", "/predict", json=document, headers={"Accept": NPY})
    assert head["content-type"] == NPY
    np.testing.assert_array_equal(loaded(body), [4, 6])


async def test_a_header_that_comes_twice_is_a_list(served: Served) -> None:
    async with calling(served.port) as caller:
        for lines in ((f"Accept: {NPY}", "Accept: */*"), ("Accept: */*", f"Accept: {NPY}")):
            await caller.ask("/predict", {"instances": [[1, 2]]}, *lines[1:], accept=lines[0].removeprefix("Accept: "))
            assert (caller.status, caller.headers["content-type"]) == (200, NPY)
            await caller.reader.readexactly(int(caller.headers["content-length"]))
        twice = ["Inference-Header-Content-Length: 2"] * 2
        await caller.ask("/predict", b"{}", *twice, accept="*/*")
        assert (caller.status, (await caller.body()).keys()) == (400, {"error"})


async def test_what_is_no_array_of_numbers_cannot_be_asked_for(served: Served) -> None:
    document = {"instances": [{"A": [1], "B": [2]}], "parameters": {"model": "pair"}}
    assert await served.predict(document, Accept=NPY) == (
        400,
        {"error": "these predictions are not one array of numbers; ask for application/json"},
    )


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is no npy file: "),
        (b"PK", "the body is no npy file: "),
        (saved(np.array([{}])), "an npy file of object is not handled; send numbers, booleans or text"),
        (saved(np.float32(1)), "the npy file has no leading dimension of at least 1"),
        (saved(np.zeros((2, 2), "f4"))[:-1], "the npy file says float32 [2, 2] and has 15 bytes for it"),
        (saved(np.zeros((0, 2), "f4")), "the npy file says [0, 2] and so has no elements"),
        (saved(np.zeros((2, 3), "f4")), "instances[0]: input 'X' has shape [3]; the model takes [2]"),
    ],
)
async def test_a_wrong_array_is_400(served: Served, body: bytes, sentence: str) -> None:
    status, said = await served.ask("POST", "/predict", data=body, headers={"Content-Type": NPY})
    assert status == 400
    assert said["error"].startswith(sentence)


async def test_an_array_for_a_decoupled_model_is_its_inputs(served: Served) -> None:
    path, sent = "/v1/models/talk:predict", saved(np.array([["one two"], ["three"]]))
    status, body = await served.ask("POST", path, data=sent, headers={"Content-Type": NPY})
    assert (status, body) == (200, {"predictions": [["one", "two"], ["three"]]})


# Bytes


async def test_another_media_type_is_one_instance_for_the_handler_which_knows_it(served: Served) -> None:
    for media_type, length in (("image/jpeg", 10), ("IMAGE/PNG; x=y", 9), ("application/octet-stream", 0)):
        headers = {"Content-Type": media_type}
        status, body = await served.ask("POST", "/v1/models/media:predict", data=b"abc", headers=headers)
        assert (status, body) == (200, {"predictions": [[6, 2 * length]]})


async def test_in_json_there_is_no_media_type(served: Served) -> None:
    instances = [{"b64": base64.b64encode(b"abcd").decode()}]
    body = {"instances": instances, "parameters": {"model": "media"}}
    assert await served.predict(body) == (200, {"predictions": [[8, 0]]})
    assert await served.predict({"instances": ["x"], "parameters": {"model": "media"}}) == (
        400,
        {"error": "instances[0]: str of ''"},
    )


async def test_a_model_of_bytes_takes_any_media_type(served: Served) -> None:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    status, body = await served.ask("POST", "/v1/models/talk:predict", data="ä ö".encode(), headers=headers)
    assert (status, body) == (200, {"predictions": [["ä", "ö"]]})


@pytest.mark.parametrize("media_type", ["image/jpeg", "text/html", "nonsense"])
async def test_without_a_handler_another_media_type_is_400_and_never_415(served: Served, media_type: str) -> None:
    for path in ("/predict", "/v1/models/pair:predict"):
        status, body = await served.ask("POST", path, data=b"abc", headers={"Content-Type": media_type})
        assert status == 400
        assert body["error"].startswith(f"Content-Type '{media_type}' is not handled; send application/json, or ")


@pytest.mark.parametrize("path", ["/v1/models/talk:predict", "/predict"])
async def test_bytes_that_are_no_text_for_a_decoupled_model_are_400(served: Served, path: str) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    status, body = await served.ask("POST", path, data=b"\xff\xfe\xfd", headers=headers)
    assert status == 400
    assert body["error"].startswith("instances[0]: input 'X'")


# The Open Inference Protocol


@pytest.mark.parametrize(
    ("document", "path", "triton"),
    [
        (oip(), "/predict", "/v2/models/twice/infer"),
        (oip(parameters={"model": "media"}), "/predict", "/v2/models/twice/infer"),
        (oip(parameters={"model": "twice", "version": 2}), "/predict", "/v2/models/twice/versions/2/infer"),
        (oip(), "/v1/models/plain:predict", "/v2/models/twice/infer"),
        (oip(), "/v1/models/twice/versions/10:predict", "/v2/models/twice/versions/10/infer"),
        (oip(parameters={"model": "pair"}), "/v1/models/twice:predict", "/v2/models/twice/infer"),
        (oip(parameters={"model": "a b%ä"}), "/predict", "/v2/models/a%20b%25%C3%A4/infer"),
    ],
)
async def test_a_request_of_the_protocol_goes_to_the_routes_model(
    served: Served, document: Any, path: str, triton: str
) -> None:
    """Past its handler, byte for byte; and so does the answer."""
    body = orjson.dumps(document, option=orjson.OPT_INDENT_2)
    headers = {"Content-Type": "application/json", "X-Me": "secret", "Cookie": "secret"}
    status, said = await served.ask("POST", path, data=body, headers=headers)
    assert status == 200
    assert said["outputs"] == [{"name": "Y", "datatype": "FP32", "shape": [1, 2], "data": [2, 4]}]
    (asked,) = served.triton.asked_for(triton)
    assert (asked.body, asked.headers["content-type"]) == (body, "application/json")
    assert asked.headers.keys() <= {"host", "content-type", "content-length", "accept-encoding"}


@pytest.mark.parametrize("way", ["header", "media type", "both"])
async def test_its_binary_extension(served: Served, way: str) -> None:
    body, length = binary(parameters={"model": "twice", "version": 2})
    headers = {"Content-Type": f"{VENDOR}{length}" if way != "header" else "application/json"}
    if way != "media type":
        headers["Inference-Header-Content-Length"] = str(length if way == "header" else 1)
    status, head, said = await served.told("POST", "/predict", data=body, headers=headers)
    assert status == 200
    (asked,) = served.triton.asked_for("/v2/models/twice/versions/2/infer")
    assert (asked.body, asked.headers["inference-header-content-length"]) == (body, str(length))
    assert asked.headers["content-type"] == "application/octet-stream"
    header = int(head["inference-header-content-length"])
    assert orjson.loads(said[:header])["outputs"][0]["name"] == "Y"
    assert said[header:] == np.array([2, 4], "<f4").tobytes()


@pytest.mark.parametrize("length", ["-1", "x", "99999", "4294967296", "1.0", "0x1", ""])
@pytest.mark.parametrize("way", ["header", "media type"])
async def test_a_wrong_length_never_reaches_triton(served: Served, length: str, way: str) -> None:
    body, _ = binary()
    headers = {"Content-Type": f"{VENDOR}{length}"} if way == "media type" else {}
    if way == "header":
        headers = {"Content-Type": "application/json", "Inference-Header-Content-Length": length}
    status, said = await served.ask("POST", "/predict", data=body, headers=headers)
    assert status == 400
    assert said.keys() == {"error"}
    assert served.triton.asked == []


@pytest.mark.parametrize("key", ["shared_memory_region", "\\u0073hared_memory_region"])
@pytest.mark.parametrize("path", ["/predict", "/v1/models/twice:predict", "/v2/models/twice/infer"])
async def test_shared_memory_never_reaches_triton(served: Served, key: str, path: str) -> None:
    entry = f'{{"name": "X", "shape": [1, 2], "datatype": "FP32", "parameters": {{"{key}": "listener"}}}}'
    body = f'{{"inputs": [{entry}]}}'.encode()
    for headers in ({}, {"Inference-Header-Content-Length": str(len(body))}):
        headers = {"Content-Type": "application/json", **headers}
        status, said = await served.ask("POST", path, data=body, headers=headers)
        assert status == 400
        assert said["error"].startswith("shared memory cannot be used through the listener")
    assert served.triton.asked == []


async def test_what_triton_says_of_it_passes(served: Served) -> None:
    served.triton.fail_with = 503
    assert await served.predict(oip()) == (503, {"error": "the fake was told to fail"})


@pytest.mark.parametrize("parameters", [{"model": "no"}, {"version": 7}, {"model": []}])
async def test_a_model_that_is_not_there_is_400_here_too(served: Served, parameters: Any) -> None:
    status, said = await served.predict(oip(parameters=parameters))
    assert (status, said.keys()) == (400, {"error"})
    assert served.triton.asked_for("/v2/models/no/infer") == []


@pytest.mark.parametrize("depth", [300, 900])
async def test_deep_nesting_is_the_callers_fault(served: Served, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for body, path in (
        (f'{{"inputs": [{{"name": "\\u0058", "shape": [1], "datatype": "FP32", "data": {deep}}}]}}', "/predict"),
        (f'{{"instances": [{deep}]}}', "/predict"),
        (f'{{"inputs": {deep}}}', "/predict"),
        (f'{{"instances": [{{"X": {deep}}}]}}', "/v1/models/talk:predict"),
        (f'{{"instances": ["a"], "parameters": {{"x": {deep}}}}}', "/v1/models/talk:predict"),
    ):
        headers = {"Content-Type": "application/json"}
        status, said = await served.ask("POST", path, data=body, headers=headers)
        assert (status, said.keys()) == (400, {"error"}), (path, said)


# Decoupled models


async def test_the_prediction_of_a_decoupled_model_is_a_list(served: Served) -> None:
    body = {"instances": ["one two", {"X": "three"}, ""], "parameters": {"model": "talk", "n": 1}}
    assert await served.predict(body) == (200, {"predictions": [["one", "two"], ["three"], []]})
    asked = served.triton.asked_for("/v2/models/talk/generate_stream")
    assert sorted(orjson.loads(each.body)["X"] for each in asked) == ["", "one two", "three"]
    assert {orjson.dumps(orjson.loads(each.body)["parameters"]) for each in asked} == {b'{"n":1}'}


@pytest.mark.parametrize(
    ("instances", "status", "sentence"),
    [
        (["fail"], 400, "model 'talk': failed in between"),
        (["fine", "fail"], 400, "model 'talk': failed in between"),
        (["one fail"], 502, "model 'talk' failed in the middle of its answer"),
        ([{"Z": 1}], 400, "instances[0]: unknown input 'Z' of model 'talk'"),
        (
            [{"X": {"deep": {"b64": "/w=="}}}],
            400,
            "instances[0]: input 'X' is no UTF-8, which this model's requests have",
        ),
    ],
)
async def test_its_failures_are_those_of_any_model(
    served: Served, instances: list[Any], status: int, sentence: str
) -> None:
    got, body = await served.predict({"instances": instances, "parameters": {"model": "talk"}})
    assert got == status
    assert body["error"].startswith(sentence)


# Compression


@pytest.mark.parametrize(("coding", "read"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
async def test_a_large_answer_is_compressed_for_whom_asks(serve: Serve, coding: str, read: Any) -> None:
    document = {"instances": [[0.5, 2]] * 500}
    async with serve(compress_from=1000) as served:
        for path in ("/predict", "/v1/models/plain:predict"):  # the fast path, and aiohttp's
            async with served.http.post(
                f"{served.url}{path}", json=document, headers={"Accept-Encoding": coding}
            ) as answer:
                assert (answer.headers["Content-Encoding"], answer.headers["Vary"]) == (coding, "Accept-Encoding")
                assert await answer.json() == {"predictions": [[1, 4]] * 500}
                assert int(answer.headers["Content-Length"]) < 1000
            for headers in ({"Accept-Encoding": "identity"}, {"Accept-Encoding": f"{coding};q=0"}):
                _, head, body = await served.told("POST", path, json=document, headers=headers)
                assert "content-encoding" not in head
                assert body == {"predictions": [[1, 4]] * 500}
            _, head, _ = await served.told(
                "POST", path, json={"instances": [[1, 2]]}, headers={"Accept-Encoding": coding}
            )
            assert "content-encoding" not in head


async def test_the_wish_of_a_client_reaches_triton_where_it_answers_itself(served: Served) -> None:
    await served.predict(oip(), **{"Accept-Encoding": "br, gzip;q=0.5"})
    await served.predict(oip(), **{"Accept-Encoding": "br"})
    assert [asked.headers.get("accept-encoding") for asked in served.triton.asked] == ["gzip", None]
