"""The backend onnxruntime for a Triton that has none, seen through the HTTP interface of a real Triton.

Two servers are started: one whose models must all load, and one with `--exit-on-error=false` whose models must not.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from listener import probe
from tests.integration.stack import Stack, free_port, wait_for
from tests.triton.backends.parts import modules

pytestmark = pytest.mark.triton

onnx = pytest.importorskip("onnx")
http = pytest.importorskip("tritonclient.http")
utils = pytest.importorskip("tritonclient.utils")

FLOAT, INT64, STRING = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.STRING
DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FLOAT16": np.float16,
    "FLOAT": np.float32,
    "DOUBLE": np.float64,
}

# ---------------------------------------------------------------------------------------------------------- the server


@contextlib.contextmanager
def triton(repository: Path, *arguments: str) -> Iterator[str]:
    """Runs `listener triton` on a repository until the block ends; yields Triton's address, host:port."""
    (repository.parent / "listener.yaml").write_text(f"repository: {repository.name}\nroutes:\n  any: {{}}\n")
    address = f"127.0.0.1:{free_port()}"
    stack = Stack(
        repository.parent / "triton.log",
        "triton",
        service=repository.parent,
        LISTENER_TRITON_URL=address,
        LISTENER_TRITON_ARGS=shlex.join(["--allow-metrics=false", *arguments]),
    )
    try:
        # Triton's HTTP port opens once all models are loaded, or have failed to
        wait_for(lambda: probe.get(f"http://{address}/v2/health/live", 5)[0] == 200, 60, stack.output)
        yield address
    finally:
        stack.stop()


# ---------------------------------------------------------------------------------------------------------- the models


def value(name: str, dtype: int, shape: Sequence[int | str]) -> Any:
    return onnx.helper.make_tensor_value_info(name, dtype, shape)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def constant(name: str, array: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(array), name)


def network(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Sequence[Any] = ()) -> Any:
    graph = onnx.helper.make_graph(nodes, "test", inputs, outputs, list(constants))
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def scaled(factor: float = 1, shape: Sequence[int | str] = ("n", 4)) -> Any:
    """y = factor * x."""
    tensors = value("x", FLOAT, shape), value("y", FLOAT, shape)
    return network([node("Mul", "x f", "y")], [tensors[0]], [tensors[1]], [constant("f", np.float32(factor))])


def counting() -> Any:
    """Each row of y holds how many rows were computed together; x indexes a table of 4 to give z."""
    nodes = [
        node("Shape", "x", "rows", start=0, end=1),
        node("Mul", "x zero", "nothing"),
        node("Add", "nothing rows", "y"),
        node("Gather", "table x", "z", axis=0),
    ]
    constants = [constant("zero", np.int64(0)), constant("table", np.arange(4, dtype=np.float32) * 10)]
    outputs = [value("y", INT64, ["n", 1]), value("z", FLOAT, ["n", 1])]
    return network(nodes, [value("x", INT64, ["n", 1])], outputs, constants)


def slow() -> Any:
    """y = turns, after as many matrix products."""
    body = onnx.helper.make_graph(
        [node("Identity", "go", "go_on"), node("MatMul", "m w", "m_out")],
        "body",
        [value("i", INT64, []), value("go", onnx.TensorProto.BOOL, []), value("m", FLOAT, [256, 256])],
        [value("go_on", onnx.TensorProto.BOOL, []), value("m_out", FLOAT, [256, 256])],
        [constant("w", np.eye(256, dtype=np.float32))],
    )
    nodes = [
        node("Squeeze", "turns", "count"),
        onnx.helper.make_node("Loop", ["count", "", "start"], ["end"], body=body),
        node("ReduceMax", "end", "one", keepdims=0),
        node("Cast", "one", "one_integer", to=INT64),
        node("Mul", "turns one_integer", "y"),
    ]
    constants = [constant("start", np.eye(256, dtype=np.float32))]
    return network(nodes, [value("turns", INT64, [1])], [value("y", INT64, [1])], constants)


def every_dtype() -> Any:
    names = [*DTYPES, "STRING"]
    pairs = [(name, getattr(onnx.TensorProto, name)) for name in names]
    return network(
        [node("Identity", name, f"{name}_OUT") for name in names],
        [value(name, dtype, ["n", 2]) for name, dtype in pairs],
        [value(f"{name}_OUT", dtype, ["n", 2]) for name, dtype in pairs],
    )


def with_default() -> Any:
    """y = x + b, where b may be left out."""
    inputs = [value("x", FLOAT, [2]), value("b", FLOAT, [1])]
    return network(
        [node("Add", "x b", "y")], inputs, [value("y", FLOAT, [2])], [constant("b", np.array([5], np.float32))]
    )


def first_row() -> Any:
    """y = x[:1], which the file cannot tell from y = x."""
    constants = [constant("start", [0]), constant("end", [1])]
    tensors = value("x", FLOAT, ["n", 4]), value("y", FLOAT, ["n", 4])
    return network([node("Slice", "x start end", "y")], [tensors[0]], [tensors[1]], constants)


def identity(dtype: int, shape: Sequence[int | str]) -> Any:
    return network([node("Identity", "x", "y")], [value("x", dtype, shape)], [value("y", dtype, shape)])


def store(repository: Path, name: str, model: Any, config: str | None = None, file: str = "1/model.onnx") -> Path:
    """Adds a model to a repository; one instance unless `config` says otherwise, as Triton would start two."""
    path = repository / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    if config is not None:
        if "instance_group" not in config:
            config += "\ninstance_group [{ kind: KIND_CPU count: 1 }]"
        (repository / name / "config.pbtxt").write_text(config)
    return path


BACKEND = 'backend: "onnxruntime"\n'
XY = 'input [{ name: "x" data_type: TYPE_FP32 dims: %s }]\noutput [{ name: "y" data_type: TYPE_FP32 dims: %s }]\n'
DELAY = "dynamic_batching { preferred_batch_size: [4] max_queue_delay_microseconds: 2000000 }\n"


def fill(repository: Path) -> None:
    """All models that must load."""
    store(repository, "bare", scaled(2))
    store(repository, "backend", scaled(), BACKEND)
    store(repository, "platform", scaled(), 'platform: "onnxruntime_onnx"\ninstance_group [{ kind: KIND_AUTO }]')
    store(repository, "renamed", scaled(3), BACKEND + 'default_model_filename: "net.onnx"', "1/net.onnx")
    store(repository, "versions", scaled(1), BACKEND + "version_policy { all {} }")
    store(repository, "versions", scaled(2), file="2/model.onnx")
    folder = repository / "folder" / "1" / "model.onnx"
    folder.mkdir(parents=True)
    onnx.save(scaled(4), folder / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    store(repository, "named", scaled(), BACKEND + 'max_batch_size: 8\ninput [{ name: "x" }]\noutput [{ name: "y" }]')
    store(repository, "declared", scaled(), BACKEND + XY % ("[-1, 4]", "[-1, 4]"))
    store(repository, "fixed", scaled(2, [1, 4]), BACKEND)
    store(repository, "dynamic", scaled(2, [1, "k"]), BACKEND)
    store(repository, "scalar", identity(FLOAT, []), BACKEND)
    store(repository, "row_scalar", identity(STRING, ["n"]), BACKEND)
    store(
        repository,
        "reshaped",
        scaled(2),
        BACKEND
        + "max_batch_size: 2\n"
        + ('input [{ name: "x" data_type: TYPE_FP32 dims: [2, 2] reshape { shape: [4] } }]'),
    )
    store(repository, "dtypes", every_dtype(), BACKEND)
    store(repository, "counting", counting(), BACKEND + "max_batch_size: 4\n" + DELAY)
    whole = 'input [{ name: "x" data_type: TYPE_INT64 dims: [-1, 1] }]\noutput [{ name: "y" data_type: TYPE_INT64 %s }]'
    store(repository, "first_row", first_row(), BACKEND)
    store(repository, "counting_alone", counting(), BACKEND + whole % "dims: [-1, 1]")
    store(repository, "optional", with_default(), BACKEND + 'input [{ name: "x" }, { name: "b" optional: true }]')
    options = {"intra_op_thread_count": 2, "inter_op_thread_count": 1, "execution_mode": 1}
    parameters = [f'parameters {{ key: "{key}" value {{ string_value: "{text}" }} }}' for key, text in options.items()]
    store(repository, "options", scaled(), BACKEND + "optimization { graph { level: 1 } }\n" + "\n".join(parameters))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repository = tmp_path_factory.mktemp("good") / "repository"
    fill(repository)
    with triton(repository) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with http.InferenceServerClient(url, concurrency=8) as opened:
        yield opened


def tensors(**arrays: NDArray[Any]) -> list[Any]:
    inputs = []
    for name, array in arrays.items():
        inputs.append(http.InferInput(name, list(array.shape), utils.np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def infer(client: Any, model: str, **arrays: NDArray[Any]) -> Any:
    return client.infer(model, tensors(**arrays))


def ones(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


# --------------------------------------------------------------------------------------------------- finding the model


@pytest.mark.parametrize(
    ("model", "factor"),
    [("bare", 2), ("backend", 1), ("platform", 1), ("renamed", 3), ("folder", 4), ("named", 1), ("options", 1)],
)
def test_models_are_found_however_they_are_declared(client: Any, model: str, factor: float) -> None:
    assert infer(client, model, x=ones(2, 4)).as_numpy("y").tolist() == [[factor] * 4] * 2


def test_each_version_is_its_own_file(client: Any) -> None:
    for version in ("1", "2"):
        result = client.infer("versions", tensors(x=ones(1, 4)), model_version=version)
        assert result.as_numpy("y")[0, 0] == int(version)


# ------------------------------------------------------------------------------------------- completing configurations


def shapes(config: dict[str, Any], key: str) -> dict[str, tuple[str, list[int]]]:
    return {entry["name"]: (entry["data_type"], entry["dims"]) for entry in config[key]}


def test_a_model_without_configuration_batches_by_default(client: Any) -> None:
    config = client.get_model_config("bare")
    assert (config["max_batch_size"], "dynamic_batching" in config) == (4, True)
    assert shapes(config, "input") == {"x": ("TYPE_FP32", [4])}
    assert shapes(config, "output") == {"y": ("TYPE_FP32", [4])}


def test_a_fixed_first_dimension_cannot_batch(client: Any) -> None:
    config = client.get_model_config("fixed")
    assert (config["max_batch_size"], "dynamic_batching" in config) == (0, False)
    assert shapes(config, "input") == {"x": ("TYPE_FP32", [1, 4])}
    assert infer(client, "fixed", x=ones(1, 4)).as_numpy("y").tolist() == [[2] * 4]


def test_inputs_and_outputs_declared_by_name_are_completed(client: Any) -> None:
    config = client.get_model_config("named")
    assert config["max_batch_size"] == 8
    assert "dynamic_batching" in config
    assert shapes(config, "input") == {"x": ("TYPE_FP32", [4])}


def test_a_full_declaration_is_left_as_it_is(client: Any) -> None:
    config = client.get_model_config("declared")
    assert (config["max_batch_size"], "dynamic_batching" in config) == (0, False)
    assert infer(client, "declared", x=ones(9, 4)).as_numpy("y").shape == (9, 4)


# ------------------------------------------------------------------------------------------------------------- tensors


def test_every_dtype_comes_back_as_it_went(client: Any) -> None:
    arrays = {name: np.array([[0, 1], [1, 1], [1, 0]]).astype(dtype) for name, dtype in DTYPES.items()}
    texts = np.array([["", "ä\0b"], ["\N{GRINNING FACE}", "x" * 3000], ["c", "d"]], dtype=np.object_)
    result = infer(client, "dtypes", **arrays, STRING=texts)
    for name, array in arrays.items():
        back = result.as_numpy(f"{name}_OUT")
        assert (back.dtype, back.tolist()) == (array.dtype, array.tolist())
    assert [text.decode() for text in result.as_numpy("STRING_OUT").ravel()] == texts.ravel().tolist()


def test_bytes_that_are_not_utf8_are_refused(client: Any) -> None:
    with pytest.raises(http.InferenceServerException, match="element 1 of input 'x' is not valid UTF-8") as raised:
        infer(client, "row_scalar", x=np.array([[b"a"], [b"\xff\xfe"]], dtype=np.object_))
    assert raised.value.status() == "400"


def test_only_requested_outputs_are_returned(client: Any) -> None:
    outputs = [http.InferRequestedOutput("z")]
    response = client.infer("counting", tensors(x=np.array([[1]])), outputs=outputs).get_response()
    assert [output["name"] for output in response["outputs"]] == ["z"]


def test_requests_for_different_outputs_share_a_batch(client: Any) -> None:
    pending = [
        client.async_infer("counting", tensors(x=np.array([[1], [2]])), outputs=[http.InferRequestedOutput(name)])
        for name in ("y", "z")
    ]
    first, second = (request.get_result() for request in pending)
    assert (first.as_numpy("y").tolist(), first.as_numpy("z")) == ([[4], [4]], None)
    assert (second.as_numpy("z").tolist(), second.as_numpy("y")) == ([[10], [20]], None)


@pytest.mark.parametrize("size", [1, 3, 0])
def test_dynamic_and_empty_shapes(client: Any, size: int) -> None:
    assert infer(client, "dynamic", x=ones(1, size)).as_numpy("y").shape == (1, size)


def test_a_batch_without_rows(client: Any) -> None:
    assert infer(client, "declared", x=ones(0, 4)).as_numpy("y").shape == (0, 4)


def test_scalars_are_vectors_of_one_for_triton(client: Any) -> None:
    assert infer(client, "scalar", x=ones(1)).as_numpy("y").tolist() == [1]
    texts = np.array([["a"], ["b"]], dtype=np.object_)
    assert infer(client, "row_scalar", x=texts).as_numpy("y").tolist() == [[b"a"], [b"b"]]


def test_a_declared_reshape_is_honoured(client: Any) -> None:
    assert infer(client, "reshaped", x=ones(1, 2, 2)).as_numpy("y").tolist() == [[2] * 4]


def test_an_optional_input_has_the_default_of_the_file(client: Any) -> None:
    assert infer(client, "optional", x=ones(2)).as_numpy("y").tolist() == [6, 6]
    assert infer(client, "optional", x=ones(2), b=ones(1)).as_numpy("y").tolist() == [2, 2]


# ------------------------------------------------------------------------------------------------------------- batches


def together(client: Any, model: str, *rows: list[int]) -> list[Any]:
    """Sends requests at the same time; an error takes the place of a result."""
    pending = [client.async_infer(model, tensors(x=np.array(values)[:, None])) for values in rows]
    results: list[Any] = []
    for request in pending:
        try:
            results.append(request.get_result())
        except http.InferenceServerException as error:
            results.append(error)
    return results


def test_requests_of_a_batch_are_computed_together(client: Any) -> None:
    results = together(client, "counting", [0], [1, 2], [3])
    assert [result.as_numpy("y").ravel().tolist() for result in results] == [[4], [4, 4], [4]]
    assert [result.as_numpy("z").ravel().tolist() for result in results] == [[0], [10, 20], [30]]


def test_a_failing_request_does_not_fail_its_batch(client: Any) -> None:
    before = executions(client, "counting")
    first, second, third, fourth = together(client, "counting", [1], [7], [2], [3])
    assert [result.as_numpy("z").tolist() for result in (first, third, fourth)] == [[[10]], [[20]], [[30]]]
    assert "out of data bounds" in second.message()
    assert "\n" not in second.message()
    assert executions(client, "counting") == before + 1


def executions(client: Any, model: str) -> int:
    return int(client.get_inference_statistics(model)["model_stats"][0]["execution_count"])


def test_a_model_without_batching_computes_each_request_alone(client: Any) -> None:
    results = together(client, "counting_alone", [0], [1, 2], [3])
    assert [result.as_numpy("y").ravel().tolist() for result in results] == [[1], [2, 2], [1]]


def test_a_batch_whose_outputs_have_other_rows_is_an_error(client: Any) -> None:
    with pytest.raises(http.InferenceServerException, match=r"output 'y' has the shape \[1, 4\] for a batch of 2"):
        infer(client, "first_row", x=ones(2, 4))


# ------------------------------------------------------------------------------- models that must not load, and options


def two_inputs() -> Any:
    tensors = [value(name, FLOAT, ["n", 4]) for name in "xzy"]
    return network([node("Add", "x z", "y")], tensors[:2], tensors[2:])


def sequence() -> Any:
    pair = onnx.helper.make_tensor_sequence_value_info("y", FLOAT, None)
    return network([node("SequenceConstruct", "x x", "y")], [value("x", FLOAT, ["n"])], [pair])


def newer() -> Any:
    model = scaled()
    model.opset_import[0].version = 999
    return model


def parameter(name: str, text: str) -> str:
    return f'parameters {{ key: "{name}" value {{ string_value: "{text}" }} }}\n'


X_OTHER = 'input [{ name: "x" data_type: %s dims: %s }]'
REFUSED: dict[str, tuple[Any, str, str]] = {
    "unknown_input": (
        scaled(),
        'input [{ name: "q" }]',
        "config.pbtxt declares the input 'q', but model.onnx has no such input; it has 'x'",
    ),
    "unknown_output": (
        scaled(),
        'output [{ name: "q" }]',
        "config.pbtxt declares the output 'q', but",
    ),
    "dtype": (
        scaled(),
        X_OTHER % ("TYPE_FP16", "[4]"),
        "config.pbtxt declares input 'x' as TYPE_FP16, but model.onnx has TYPE_FP32",
    ),
    "dims": (
        scaled(),
        "max_batch_size: 8\n" + X_OTHER % ("TYPE_FP32", "[5]"),
        "input 'x' with dims [5], but model.onnx has [4] (without the batch dimension, as max_batch_size is 8)",
    ),
    "output_dims": (
        scaled(1, ["n", "k"]),
        XY % ("[-1, 4]", "[-1, 4]"),
        "with dims [-1, 4], but model.onnx has [-1, -1]",
    ),
    "fixed_batch": (
        scaled(1, [1, 4]),
        "max_batch_size: 8",
        "config.pbtxt sets max_batch_size to 8, but input 'x' of model.onnx has the shape [1, 4]",
    ),
    "lacking_input": (
        two_inputs(),
        'input [{ name: "x" }]',
        "model.onnx needs the input 'z', which",
    ),
    "not_optional": (
        scaled(1, [4]),
        'input [{ name: "x" optional: true }]',
        "but model.onnx has no default for it",
    ),
    "is_optional": (with_default(), 'input [{ name: "x" }, { name: "b" }]', "input 'b' has a default in model.onnx"),
    "ragged": (scaled(), 'input [{ name: "x" allow_ragged_batch: true }]', "sets allow_ragged_batch"),
    "no_file": (scaled(), 'default_model_filename: "other.onnx"', "model 'no_file': there is no file"),
    "damaged": (b"no protobuf", "", "cannot load"),
    "newer": (newer(), "", "a newer onnxruntime, or an export for an older opset, may help"),
    "bf16": (
        identity(onnx.TensorProto.BFLOAT16, ["n"]),
        "",
        "input 'x' of model.onnx is a tensor(bfloat16), which",
    ),
    "sequence": (sequence(), "", "output 'y' of model.onnx is a seq(tensor(float)), which"),
    "threads": (
        scaled(),
        parameter("intra_op_thread_count", "many"),
        "must be a whole number, not 'many'",
    ),
    "mode": (scaled(), parameter("execution_mode", "7"), "execution_mode must be 0 or 1, not 7"),
}


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    repository = tmp_path_factory.mktemp("bad") / "repository"
    for name, (model, config, _) in REFUSED.items():
        store(repository, name, model, BACKEND + config)
    store(repository, "gpu", scaled(), BACKEND + "instance_group [{ kind: KIND_GPU }]")
    store(repository, "bare", scaled())
    store(repository, "slow", slow(), BACKEND)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = ["--exit-on-error=false", "--backend-config=default-max-batch-size=6"]
    calls = ["--allow-grpc=true", "--grpc-address=127.0.0.1", f"--grpc-port={port}"]
    with triton(repository, *options, *calls) as address, http.InferenceServerClient(address) as client:
        reasons = {entry["name"]: entry.get("reason", "") for entry in client.get_model_repository_index()}
        yield SimpleNamespace(client=client, reasons=reasons, grpc=f"127.0.0.1:{port}")


@pytest.mark.parametrize("name", REFUSED)
def test_a_contradiction_is_told_when_loading(second: SimpleNamespace, name: str) -> None:
    sentence = second.reasons[name].splitlines()[0]
    assert f"model '{name}': " in sentence
    assert REFUSED[name][2] in sentence


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_a_gpu_instance_needs_a_gpu(second: SimpleNamespace) -> None:
    # Triton itself refuses, before this backend is asked; KIND_AUTO, which the model "platform" has, becomes KIND_CPU.
    assert "has kind KIND_GPU but no GPUs are available" in second.reasons["gpu"]


def test_the_default_batch_size_of_the_server_is_honoured(second: SimpleNamespace) -> None:
    assert second.client.get_model_config("bare")["max_batch_size"] == 6


def test_a_cancelled_request_is_not_run(second: SimpleNamespace) -> None:
    # Triton 2.51 cancels over gRPC only: hanging up on HTTP does not.
    grpc = pytest.importorskip("tritonclient.grpc")
    for _ in range(2):  # the first call is slower
        start = time.perf_counter()
        infer(second.client, "slow", turns=np.array([300]))
    turns = np.array([int(450 / (time.perf_counter() - start))])  # about 1.5 s
    request = grpc.InferInput("turns", [1], "INT64")
    request.set_data_from_numpy(turns)
    answers: queue.Queue[Any] = queue.Queue()
    with grpc.InferenceServerClient(second.grpc) as client:
        client.async_infer("slow", [request], lambda result, error: answers.put(error))
        time.sleep(0.3)  # this one runs now, the others wait behind it
        calls = [client.async_infer("slow", [request], lambda result, error: answers.put(error)) for _ in range(4)]
        time.sleep(0.3)
        for call in calls:
            call.cancel()
        errors = [answers.get(timeout=30) for _ in range(5)]
    assert sum(error is None for error in errors) == 1
    start = time.perf_counter()
    infer(second.client, "slow", turns=np.array([1]))
    assert time.perf_counter() - start < 1.5  # run, the four before it would take 6 s


# ------------------------------------------------------------------------------------------------ the parts, in-process


@pytest.fixture(scope="module")
def parts() -> Iterator[SimpleNamespace]:
    names = ("shared_batch", "shared_cpus", "ort_config", "ort_session")
    with modules("onnxruntime", *names) as found:
        yield SimpleNamespace(**dict(zip(("batch", "cpus", "config", "session"), found, strict=True)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], 4),
        (["tritonserver", "--backend-config=default-max-batch-size=7"], 7),
        (["--backend-config", "default-max-batch-size=8", ""], 8),
        (["--backend-config=onnxruntime,default-max-batch-size=0", "--backend-config=default-max-batch-size=9"], 0),
        (["--backend-config=tensorflow,default-max-batch-size=9", "--backend-config=python,default-max-batch-size"], 4),
    ],
)
def test_default_max_batch_size(parts: SimpleNamespace, arguments: list[str], expected: int) -> None:
    assert parts.session.default_max_batch_size(arguments) == expected


def test_cpu_quota_is_the_tightest_on_the_way_up(parts: SimpleNamespace, tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"

    def quota() -> float:
        return float(parts.cpus.cpu_quota(membership, tmp_path))

    assert quota() == math.inf
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "a" / "b" / "cpu.max").write_text("max 100000\n")
    membership.write_text("0::/a/b\n")
    assert quota() == 1.5
    version_1 = tmp_path / "cpu,cpuacct" / "c"
    version_1.mkdir(parents=True)
    (version_1 / "cpu.cfs_quota_us").write_text("50000\n")
    (version_1 / "cpu.cfs_period_us").write_text("100000\n")
    membership.write_text("12:memory:/c\n4:cpu,cpuacct:/c\n0::/a/b\n")
    assert quota() == 0.5
    (version_1 / "cpu.cfs_quota_us").write_text("-1\n")
    assert quota() == 1.5


@pytest.mark.parametrize(
    ("groups", "parameters", "intra", "inter"),
    [
        ([{"count": 2}], {}, 4, 1),
        ([{"count": 3}, {"count": 2}], {}, 1, 1),
        ([{"count": 9}], {}, 1, 1),
        ([], {}, 8, 1),
        ([{"count": 2}], {"intra_op_thread_count": "3", "inter_op_thread_count": "5"}, 3, 5),
        ([{"count": 2}], {"intra_op_thread_count": "0", "execution_mode": "1"}, 4, 4),
    ],
)
def test_threads(
    parts: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    groups: list[dict[str, Any]],
    parameters: dict[str, str],
    intra: int,
    inter: int,
) -> None:
    monkeypatch.setattr(parts.cpus, "usable_cpus", lambda: 8)
    strings = {key: {"string_value": text} for key, text in parameters.items()}
    config = {"name": "m", "instance_group": groups, "parameters": strings}
    options = parts.session.session_options(pytest.importorskip("onnxruntime"), config)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (intra, inter)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_quota_rounds_up_and_never_exceeds_the_affinity(
    parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    for quota, cpus in ((0.2, 1), (1.5, 2), (9.0, 4), (math.inf, 4)):
        monkeypatch.setattr(parts.cpus, "cpu_quota", lambda membership, mount, quota=quota: quota)
        assert parts.cpus.usable_cpus() == cpus


def test_the_gpu_is_used_where_onnxruntime_has_it(parts: SimpleNamespace) -> None:
    cuda = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert parts.session.providers("GPU", "1", cuda) == [(cuda[0], {"device_id": "1"}), cuda[1]]
    assert parts.session.providers("CPU", "0", cuda) == parts.session.providers("GPU", "0", cuda[1:]) == cuda[1:]


def test_a_gpu_instance_without_cuda_says_so_once(parts: SimpleNamespace, tmp_path: Path) -> None:
    store(tmp_path, "m", scaled())
    lines: list[str] = []
    config = {"name": "m", "max_batch_size": 4}
    parts.session.open_session(config, str(tmp_path / "m" / "1"), "GPU", "0", lines.append)
    assert lines == ["model 'm': onnxruntime has no CUDA here, so this GPU instance computes on the CPU"]


def test_a_missing_onnxruntime_names_the_remedy(parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (None, SimpleNamespace()):  # not installed; an unrelated folder of that name
        monkeypatch.setitem(sys.modules, "onnxruntime", module)
        with pytest.raises(
            parts.config.LoadError, match=r"model 'm' needs the Python package onnxruntime .* pip install"
        ):
            parts.session.require_onnxruntime("m")


def test_jobs_are_grouped_by_name_dtype_and_row_shape(parts: SimpleNamespace) -> None:
    feeds = [
        {"x": ones(1, 2)},
        {"x": ones(3, 2)},
        {"x": ones(1, 3)},
        {"x": ones(1, 2).astype(np.float64)},
        {"z": ones(1, 2)},
    ]
    jobs = [parts.batch.Job(place, feed, ["y"]) for place, feed in enumerate(feeds)]
    assert [[job.place for job in group] for group in parts.batch.groups(jobs, True)] == [[0, 1], [2], [3], [4]]
    assert [[job.place for job in group] for group in parts.batch.groups(jobs, False)] == [[0], [1], [2], [3], [4]]


def test_a_single_request_is_not_copied(parts: SimpleNamespace) -> None:
    array = ones(2, 2)
    seen: list[Any] = []

    def run(wanted: list[str], feeds: dict[str, Any]) -> list[Any]:
        seen.append(feeds["x"])
        return [feeds["x"]]

    [(_, outputs)] = parts.batch.run_group(run, [parts.batch.Job(0, {"x": array}, ["y"])], True)
    assert seen[0] is array
    assert np.shares_memory(outputs["y"], array)


def test_sequence_controls_need_no_declaration(parts: SimpleNamespace) -> None:
    def declared(name: str) -> list[dict[str, Any]]:
        return [{"name": name, "data_type": "TYPE_FP32", "dims": [1]}]

    nodes = {name: SimpleNamespace(name=name, type="tensor(float)", shape=["n", 1]) for name in ("x", "START", "y")}
    signature = parts.config.signature_of("m", "model.onnx", [nodes["x"], nodes["START"]], [], [nodes["y"]])
    config: dict[str, Any] = {"max_batch_size": 1, "input": declared("x"), "output": declared("y")}
    with pytest.raises(parts.config.LoadError, match="needs the input 'START'"):
        parts.config.check(config, signature)
    config["sequence_batching"] = {"control_input": [{"name": "START"}]}
    parts.config.check(config, signature)
