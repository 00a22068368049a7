"""TorchScript models in an image of ours that has torch: our Python-based backend, a real torch and a real Triton.

The models are made where they are served (torch_models.py). Some must not load, and Triton goes on without them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.contract.target import Answer
from tests.image.runtime import PORT, Container, Image, running

HERE = Path(__file__).parent
MODELS = "/tmp/models"


@pytest.fixture(scope="module")
def serving(images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    image = images["torch"]
    *shell, start = image.config["Entrypoint"]
    command = [*shell, f"/usr/bin/python3 /made/torch_models.py {MODELS} && {start}"]
    environ = {
        "AIP_HTTP_PORT": str(PORT),
        "LISTENER_REPOSITORY": MODELS,
        "LISTENER_TRITON_ARGS": "--exit-on-error=false --strict-readiness=false",
    }
    folder = tmp_path_factory.mktemp("torch")
    made = folder / "made"
    made.mkdir()
    (made / "torch_models.py").write_bytes((HERE / "torch_models.py").read_bytes())
    with running(image, folder / "container", environ, command=command, mounts={"/made": made}) as container:
        container.until(200, 120)
        yield container


def infer(serving: Container, model: str, **inputs: tuple[str, list[Any]]) -> Answer:
    """One request; of each input its data type and rows."""
    tensors = [
        {"name": name, "datatype": data_type, "shape": shape(rows), "data": rows}
        for name, (data_type, rows) in inputs.items()
    ]
    return serving.target.post(f"/v2/models/{model}/infer", {"inputs": tensors})


def shape(rows: list[Any]) -> list[int]:
    return [len(rows), *(shape(rows[0]) if isinstance(rows[0], list) else [])]


def floats(*numbers: Any) -> tuple[str, list[Any]]:
    return "FP32", list(numbers)


def outputs(answer: Answer) -> dict[str, tuple[str, list[Any]]]:
    assert answer.status == 200, answer
    return {each["name"]: (each["datatype"], each["data"]) for each in answer.json()["outputs"]}


@pytest.mark.parametrize(
    ("model", "left", "right"),
    [("by_name", "a", "b"), ("by_index", "q__0", "p__1"), ("by_order", "p", "q"), ("by_key", "left", "right")],
)
def test_inputs_find_their_arguments(serving: Container, model: str, left: str, right: str) -> None:
    found = outputs(infer(serving, model, **{right: floats(1, 2), left: floats(5, 7)}))
    assert found.pop("z__0" if model == "by_index" else "y") == ("FP32", [4, 5])
    assert found == ({"y__1": ("INT64", [50, 70])} if model == "by_index" else {})


def test_the_listeners_own_way(serving: Container) -> None:
    asked = {"instances": [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]], "parameters": {"model": "traced"}}
    answer = serving.target.post("/predict", asked)
    assert answer.status == 200, answer
    assert len(answer.json()["predictions"]) == 5


def test_a_warning_says_that_the_order_counts(serving: Container) -> None:
    (line,) = (line for line in serving.output().splitlines() if "<name>__<index>" in line)
    assert "model 'by_order': not all inputs have names of forward()'s arguments or" in line
    assert "'p' is a, 'q' is b" in line


def test_a_model_in_training_mode_is_told(serving: Container) -> None:
    (line,) = (line for line in serving.output().splitlines() if "was saved in training mode" in line)
    assert "model 'by_order': " in line


def test_every_type_comes_back(serving: Container) -> None:
    answer = serving.target.post("/predict", {"instances": [[0, 3]], "parameters": {"model": "every_type"}})
    assert answer.status == 200, answer
    (found,) = answer.json()["predictions"]
    assert found.pop("BOOL__0") == [False, True]
    names = ("UINT8__1", "INT8__2", "INT16__3", "INT32__4", "FP16__5", "FP32__6", "FP64__7")
    assert found == {name: [0, 3] for name in names}


def together(serving: Container, model: str, name: str, data_type: str, *batches: list[Any]) -> list[Answer]:
    with ThreadPoolExecutor(len(batches)) as pool:
        return list(pool.map(lambda rows: infer(serving, model, **{name: (data_type, rows)}), batches))


def test_requests_of_a_batch_are_computed_together(serving: Container) -> None:
    found = [outputs(each) for each in together(serving, "counting", "x", "INT64", [[0]], [[1], [2]], [[3]])]
    assert [each["rows"][1] for each in found] == [[4], [4, 4], [4]]
    assert [each["z"][1] for each in found] == [[0], [10, 20], [30]]


def test_a_failing_request_does_not_fail_its_batch(serving: Container) -> None:
    first, second, third, fourth = together(serving, "counting", "x", "INT64", [[1]], [[7]], [[2]], [[3]])
    assert [outputs(each)["z"][1] for each in (first, third, fourth)] == [[10], [20], [30]]
    assert second.status >= 400
    sentence = json.loads(second.body)["error"]
    assert "PyTorch execute failure: " in str(sentence)
    assert "index 7 is out of bounds" in str(sentence)
    assert "Traceback" not in str(sentence)
    assert "\n" not in str(sentence)


def test_strings_in_a_batch(serving: Container) -> None:
    found = [outputs(each) for each in together(serving, "words", "texts", "BYTES", [["ab"], ["ä"]], [["xyz"], [""]])]
    assert [each["twice"] for each in found] == [("BYTES", ["abab", "ää"]), ("BYTES", ["xyzxyz", ""])]
    assert [each["size"][1] for each in found] == [[2, 2], [3, 0]]


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        ("by_name", {"a": floats(1, 2, 3), "b": floats(1, 2)}, "unexpected shape for input 'a'"),
        ("by_name", {"a": floats(1, 2)}, "expected 2 inputs but got 1"),
        (
            "traced",
            {"input": floats([1, 2, 3])},
            "PyTorch execute failure: RuntimeError: mat1 and mat2 shapes cannot be",
        ),
        ("other_type", {"a": floats(1, 2), "b": floats(1, 2)}, "'y' as TYPE_FP64, but the model gave TYPE_FP32"),
    ],
)
def test_requests_that_fail(serving: Container, model: str, inputs: dict[str, Any], words: str) -> None:
    answer = infer(serving, model, **inputs)
    assert answer.status >= 400
    sentence = str(answer.json()["error"])
    assert words in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("bare", "its forward() is forward(a: Tensor, b: Tensor)"),
        ("no_boolean", 'the parameter INFERENCE_MODE must be "true" or "false", not \'perhaps\''),
        (
            "state_dict",
            "was written by torch.save (a state_dict or a pickled module), which is no TorchScript; export it",
        ),
        ("no_file", "there is no file /tmp/models/no_file/1/other.pt"),
    ],
)
def test_models_that_do_not_load(serving: Container, model: str, words: str) -> None:
    lines = [line for line in serving.output().splitlines() if f"model '{model}': " in line]
    assert any(json.dumps(words)[1:-1] in line for line in lines), lines
    assert serving.target.request("GET", f"/v2/models/{model}/ready").status >= 400
