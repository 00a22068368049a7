"""`tritonclient.http`, pointed at the listener's port, works as if that were Triton's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as client
import tritonclient.http.aio as client_aio
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tests.contract import models
from tests.contract.container import Processes
from tests.contract.target import Target
from tests.integration.stack import wait_for

pytestmark = pytest.mark.triton

A: NDArray[np.int32] = np.arange(8, dtype=np.int32).reshape(2, 4)
B: NDArray[np.int32] = np.full((2, 4), 3, np.int32)


#: Calls of the client that would change Triton, or tell of what changes it.
FORBIDDEN: dict[str, Callable[[Any], Any]] = {
    "load": lambda triton: triton.load_model("add_sub"),
    "unload": lambda triton: triton.unload_model("add_sub"),
    "register": lambda triton: triton.register_system_shared_memory("r", "/r", 16),
    "unregister": lambda triton: triton.unregister_system_shared_memory("r"),
    "unregister all": lambda triton: triton.unregister_system_shared_memory(),
    "regions": lambda triton: triton.get_system_shared_memory_status(),
    "register CUDA": lambda triton: triton.register_cuda_shared_memory("r", b"AAAA", 0, 16),
    "unregister all CUDA": lambda triton: triton.unregister_cuda_shared_memory(),
    "CUDA regions": lambda triton: triton.get_cuda_shared_memory_status(),
    "trace": lambda triton: triton.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
    "trace of a model": lambda triton: triton.update_trace_settings("add_sub", {"trace_level": ["TIMESTAMPS"]}),
    "trace settings": lambda triton: triton.get_trace_settings(),
    "log": lambda triton: triton.update_log_settings({"log_verbose_level": 1}),
    "log settings": lambda triton: triton.get_log_settings(),
}


@pytest.fixture
def triton(target: Target) -> Iterator[Any]:
    """Triton's client, which does not know better."""
    with client.InferenceServerClient(f"{target.host}:{target.port}") as made:
        yield made


@pytest.fixture
async def triton_aio(target: Target) -> AsyncIterator[Any]:
    async with client_aio.InferenceServerClient(f"{target.host}:{target.port}") as made:
        yield made


def tensor(name: str, array: NDArray[Any], datatype: str, binary: bool = True) -> Any:
    made = client.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def add_sub(binary: bool = True) -> list[Any]:
    return [tensor("A", A, "INT32", binary), tensor("B", B, "INT32", binary)]


def wanted(binary: bool = True) -> list[Any]:
    return [client.InferRequestedOutput(name, binary_data=binary) for name in ("SUM", "DIFFERENCE")]


def check(result: Any) -> None:
    np.testing.assert_array_equal(result.as_numpy("SUM"), A + B)
    np.testing.assert_array_equal(result.as_numpy("DIFFERENCE"), A - B)


# What is there


def test_liveness_and_readiness(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("add_sub")
    assert triton.is_model_ready("versions", "1")
    assert triton.is_model_ready("versions", "2")
    assert not triton.is_model_ready("versions", "3")
    assert not triton.is_model_ready("nothing")


def test_metadata(triton: Any) -> None:
    assert triton.get_server_metadata()["name"] == "triton"
    metadata = triton.get_model_metadata("add_sub")
    assert metadata["name"] == "add_sub"
    assert metadata["inputs"] == [
        {"name": "A", "datatype": "INT32", "shape": [-1, 4]},
        {"name": "B", "datatype": "INT32", "shape": [-1, 4]},
    ]
    assert sorted(triton.get_model_metadata("versions")["versions"]) == ["1", "2"]
    assert triton.get_model_metadata("versions", "1")["versions"] == ["1"]


def test_configuration(triton: Any) -> None:
    config = triton.get_model_config("add_sub")
    assert (config["name"], config["max_batch_size"]) == ("add_sub", 8)
    assert triton.get_model_config("versions", "2")["name"] == "versions"


def test_statistics(triton: Any) -> None:
    triton.infer("add_sub", add_sub())
    wait_for(lambda: triton.get_inference_statistics("add_sub")["model_stats"][0]["inference_count"] >= 2, 5)  # it lags
    assert len(triton.get_inference_statistics("versions")["model_stats"]) == 2
    assert len(triton.get_inference_statistics("versions", "1")["model_stats"]) == 1
    names = {entry["name"] for entry in triton.get_inference_statistics()["model_stats"]}
    assert names >= set(models.MODELS)


def test_the_index_of_the_repository(triton: Any) -> None:
    index = triton.get_model_repository_index()
    assert {entry["name"] for entry in index} >= set(models.MODELS)
    assert {entry["state"] for entry in index} == {"READY"}


def test_everything_that_is_there_is_said_as_triton_says_it(triton: Any, container: Processes) -> None:
    other = container.triton()
    with client.InferenceServerClient(f"{other.host}:{other.port}") as direct:
        ours, tritons = triton.get_server_metadata(), direct.get_server_metadata()
        assert (ours["name"], ours["version"]) == (tritons["name"], tritons["version"])
        assert set(ours["extensions"]) <= set(tritons["extensions"])  # those that are refused are not promised
        assert triton.get_model_repository_index() == direct.get_model_repository_index()
        for name in models.MODELS:
            assert triton.get_model_metadata(name) == direct.get_model_metadata(name)
            assert triton.get_model_config(name) == direct.get_model_config(name)


# Inference


@pytest.mark.parametrize("output", [True, False])
@pytest.mark.parametrize("input_", [True, False])
def test_infer_in_bytes_and_in_json(triton: Any, input_: bool, output: bool) -> None:
    check(triton.infer("add_sub", add_sub(input_), outputs=wanted(output)))
    check(triton.infer("add_sub", add_sub(input_)))


def test_an_output_of_choice_and_an_id(triton: Any) -> None:
    result = triton.infer("add_sub", add_sub(), outputs=wanted()[:1], request_id="forty-two")
    assert result.as_numpy("DIFFERENCE") is None
    assert result.get_response()["id"] == "forty-two"
    assert (result.get_response()["model_name"], result.get_response()["model_version"]) == ("add_sub", "1")


@pytest.mark.parametrize("version", ["1", "2"])
def test_versions(triton: Any, version: str) -> None:
    x = np.array([[3]], np.float32)
    result = triton.infer("versions", [tensor("X", x, "FP32")], model_version=version)
    assert result.as_numpy("Y").tolist() == [[3.0 * int(version)]]


ARRAYS: dict[str, NDArray[Any]] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-32768, 32767]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[0.1, -2]], np.float16),
    "FP32": np.array([[0.1, np.inf, np.nan]], np.float32),
    "FP64": np.array([[0.1, -np.inf]], np.float64),
}


@pytest.mark.parametrize(("datatype", "array"), ARRAYS.items())
def test_datatypes(triton: Any, datatype: str, array: NDArray[Any]) -> None:
    result = triton.infer(f"identity_{datatype.lower()}", [tensor("X", array, datatype)])
    np.testing.assert_array_equal(result.as_numpy("Y"), array)
    assert result.as_numpy("Y").dtype == array.dtype


def test_bf16(triton: Any) -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16  # what the client asks for since 2.70
    x = np.array([[1, -2, 0.5]], bfloat16)
    result = triton.infer("identity_bf16", [tensor("X", x, "BF16")])
    np.testing.assert_array_equal(result.as_numpy("Y"), x)


@pytest.mark.parametrize("binary", [True, False])
def test_bytes(triton: Any, binary: bool) -> None:
    items = [b"one", b"", "Zürich \u2713".encode()] + ([b"\xff\x00"] if binary else [])
    x = np.array([items], np.object_)
    output = client.InferRequestedOutput("Y", binary_data=binary)
    result = triton.infer("identity_bytes", [tensor("X", x, "BYTES", binary)], outputs=[output])
    made = result.as_numpy("Y").tolist()[0]
    assert [item if isinstance(item, bytes) else item.encode() for item in made] == items


def test_a_tensor_of_some_megabytes(triton: Any) -> None:
    x = np.random.default_rng(4).random((1, 500_000)).astype(np.float32)
    np.testing.assert_array_equal(triton.infer("identity_fp32", [tensor("X", x, "FP32")]).as_numpy("Y"), x)


def test_classification(triton: Any) -> None:
    x = np.array([[0.1, 0.7, 0.2]], np.float32)
    output = client.InferRequestedOutput("Y", class_count=2)
    result = triton.infer("labelled", [tensor("X", x, "FP32")], outputs=[output])
    assert result.as_numpy("Y").tolist() == [[b"0.700000:1:dog", b"0.200000:2:fish"]]


@pytest.mark.parametrize("response", [None, "gzip", "deflate"])
@pytest.mark.parametrize("request_", [None, "gzip", "deflate"])
def test_compression(triton: Any, request_: str | None, response: str | None) -> None:
    result = triton.infer(
        "add_sub", add_sub(), request_compression_algorithm=request_, response_compression_algorithm=response
    )
    check(result)


def test_parameters_and_priorities(triton: Any) -> None:
    check(triton.infer("add_sub", add_sub(), parameters={"mine": 5}, priority=1, timeout=10_000_000))


def test_many_at_once(target: Target) -> None:
    with client.InferenceServerClient(f"{target.host}:{target.port}", concurrency=8) as many:
        pending = [many.async_infer("add_sub", add_sub(), outputs=wanted()) for _ in range(40)]
        for request in pending:
            check(request.get_result())


def test_headers_and_query_of_the_caller(triton: Any) -> None:
    check(triton.infer("add_sub", add_sub(), headers={"X-Mine": "5"}, query_params={"a": "b"}))
    assert triton.get_model_metadata("add_sub", query_params={"a": "b"})["name"] == "add_sub"


def test_a_body_made_and_an_answer_read_by_the_client(triton: Any, target: Target) -> None:
    body, length = client.InferenceServerClient.generate_request_body(add_sub(), outputs=wanted())
    answer = target.post("/v2/models/add_sub/infer", bytes(body), {"Inference-Header-Content-Length": str(length)})
    size = answer.header("Inference-Header-Content-Length")
    check(client.InferenceServerClient.parse_response_body(answer.body, header_length=int(size or 0)))


# Errors


@pytest.mark.parametrize(
    ("model", "inputs", "status"),
    [
        ("nothing", add_sub(), "404"),
        ("add_sub", add_sub()[:1], "400"),
        ("add_sub", [tensor("Z", A, "INT32")], "400"),
        ("add_sub", [tensor("A", A, "INT32"), tensor("B", B[:, :2].copy(), "INT32")], "400"),
        ("add_sub", [tensor("A", A.astype(np.float32), "FP32"), tensor("B", B, "INT32")], "400"),
        ("failing", [tensor("X", np.array([["NOT_FOUND no leg"]], np.object_), "BYTES")], "404"),
        ("failing", [tensor("X", np.array([["INTERNAL no leg"]], np.object_), "BYTES")], "500"),
        ("failing", [tensor("X", np.array([["UNSUPPORTED no leg"]], np.object_), "BYTES")], "501"),
        ("failing", [tensor("X", np.array([["UNAVAILABLE no leg"]], np.object_), "BYTES")], "503"),
    ],
)
def test_errors(triton: Any, model: str, inputs: list[Any], status: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        triton.infer(model, inputs)
    assert caught.value.status() == status
    assert caught.value.message()
    if model == "failing":
        assert caught.value.message() == "no leg"


def test_errors_of_questions(triton: Any) -> None:
    with pytest.raises(InferenceServerException, match="nothing"):
        triton.get_model_metadata("nothing")
    with pytest.raises(InferenceServerException, match="nothing"):
        triton.get_model_config("nothing")
    with pytest.raises(InferenceServerException, match="nothing"):
        triton.get_inference_statistics("nothing")


@pytest.mark.parametrize("call", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_would_change_triton_is_refused(triton: Any, call: Callable[[Any], Any]) -> None:
    with pytest.raises(InferenceServerException) as caught:
        call(triton)
    assert caught.value.status() in ("403", "404", "405")
    assert triton.is_model_ready("add_sub")


# The same with asyncio


async def test_aio_questions(triton_aio: Any) -> None:
    assert await triton_aio.is_server_live()
    assert await triton_aio.is_server_ready()
    assert await triton_aio.is_model_ready("versions", "2")
    assert not await triton_aio.is_model_ready("nothing")
    assert (await triton_aio.get_server_metadata())["name"] == "triton"
    assert (await triton_aio.get_model_metadata("add_sub"))["name"] == "add_sub"
    assert (await triton_aio.get_model_config("add_sub"))["max_batch_size"] == 8
    assert {entry["name"] for entry in await triton_aio.get_model_repository_index()} >= set(models.MODELS)
    assert (await triton_aio.get_inference_statistics("add_sub"))["model_stats"][0]["name"] == "add_sub"


@pytest.mark.parametrize("output", [True, False])
@pytest.mark.parametrize("input_", [True, False])
async def test_aio_infer(triton_aio: Any, input_: bool, output: bool) -> None:
    check(await triton_aio.infer("add_sub", add_sub(input_), outputs=wanted(output)))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_aio_compression(triton_aio: Any, algorithm: str) -> None:
    check(
        await triton_aio.infer(
            "add_sub",
            add_sub(),
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
    )


async def test_aio_bytes_and_classes(triton_aio: Any) -> None:
    x = np.array([[b"one", b"\xff"]], np.object_)
    result = await triton_aio.infer("identity_bytes", [tensor("X", x, "BYTES")])
    assert result.as_numpy("Y").tolist() == x.tolist()
    scores = np.array([[0.1, 0.7, 0.2]], np.float32)
    best = [client.InferRequestedOutput("Y", class_count=1)]
    result = await triton_aio.infer("labelled", [tensor("X", scores, "FP32")], outputs=best)
    assert result.as_numpy("Y").tolist() == [[b"0.700000:1:dog"]]


async def test_aio_errors(triton_aio: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        await triton_aio.infer("nothing", add_sub())
    assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException):
        await triton_aio.unload_model("add_sub")
    assert await triton_aio.is_model_ready("add_sub")
