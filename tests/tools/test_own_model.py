"""`listener new --model`: what it makes around models of many kinds is in order, or it says in a sentence why not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from listener.errors import ConfigError
from listener.tools import checks, scaffold
from tests.tiny_onnx import FLOAT, INT64, KINDS, Kind
from tests.tools.test_scaffold import clean, run_tests

pytestmark = pytest.mark.usefixtures("own_imports")


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], scaffold.Made]:
    return lambda kind: scaffold.make(kind, tmp_path, KINDS[kind].write(tmp_path / "given.onnx"))


@pytest.mark.parametrize("kind", KINDS)
def test_it_passes_the_check_and_its_own_tests(kind: str, made: Callable[[str], scaffold.Made]) -> None:
    folder = made(kind).folder
    assert checks.run(folder) == []
    assert "2 passed" in run_tests(folder)


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy", "--strict"]])
def test_its_code_is_as_clean_as_ours(tmp_path: Path, command: list[str]) -> None:
    for kind, model in KINDS.items():
        scaffold.make(kind, tmp_path / kind, model.write(tmp_path / "given.onnx"))
        if command[0] == "mypy":
            (tmp_path / kind / kind / "tests" / "conftest.py").unlink()  # or there would be several of that name
    clean(tmp_path, command)


def test_the_model_is_copied_as_it_is(tmp_path: Path, made: Callable[[str], scaffold.Made]) -> None:
    assert (
        made("text").folder.joinpath("triton_repo/text/1/model.onnx").read_bytes()
        == (tmp_path / "given.onnx").read_bytes()
    )


def test_a_scalar_for_each_row(made: Callable[[str], scaffold.Made]) -> None:
    config = (made("classes").folder / "triton_repo/classes/config.pbtxt").read_text()
    assert 'name: "label"\n    data_type: TYPE_INT64\n    dims: [ 1 ]\n    reshape { shape: [ ] }\n' in config
    assert 'name: "scores"\n    data_type: TYPE_FP32\n    dims: [ 4 ]\n  }' in config
    assert "max_batch_size: 64" in config


def test_a_first_dimension_that_is_fixed(made: Callable[[str], scaffold.Made]) -> None:
    config = (made("one_at_a_time").folder / "triton_repo/one_at_a_time/config.pbtxt").read_text()
    assert "max_batch_size: 0" in config
    assert "dims: [ 1, 3 ]" in config


@pytest.mark.parametrize("kind", KINDS)
def test_the_line_that_asks_gives_an_instance(kind: str, made: Callable[[str], scaffold.Made]) -> None:
    """Of the shapes and types of the model."""
    done = made(kind)
    said = subprocess.run(
        ["bash", "-c", f'python() {{ "{sys.executable}" "$@"; }}; {done.ask}'],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert done.ask in done.next_steps()
    assert (
        shapes(json.loads(said))
        == {
            "classes": (4,),
            "columns": {"age": (), "sex": (), "no": (2,)},
            "picture": (3, 64, 64),
            "sized_picture": (3, 224, 224),
            "text": (8,),
            "words": (8,),
            "pages": (2, 8),
            "number": (),
            "sentence": (),
            "one_at_a_time": (1, 3),
            "odd_names": (2,),
            "many_outputs": (2,),
        }[kind]
    )


def shapes(instance: Any) -> Any:
    if isinstance(instance, dict):
        return {name: np.shape(value) for name, value in instance.items()}
    return np.shape(instance)


def test_weights_beside_the_file_come_along(tmp_path: Path) -> None:
    file = with_weights(tmp_path, "model.data")
    folder = scaffold.make("big", tmp_path, file).folder
    assert (folder / "triton_repo/big/1/model.data").read_bytes() == (tmp_path / "model.data").read_bytes()
    assert checks.run(folder) == []


def test_weights_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    file = with_weights(tmp_path / "inner", "model.data")
    (tmp_path / "inner" / "model.data").rename(tmp_path / "model.data")
    file.write_bytes(file.read_bytes().replace(b"model.data", b"./../m.dat"))
    (tmp_path / "m.dat").write_bytes(b"")
    refused(tmp_path, file, r"given.onnx: its weights are in ./../m.dat, which is not beside it")


def with_weights(folder: Path, name: str) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 2])],
        [helper.make_tensor("w", FLOAT, [2], np.array([1, 2], np.float32).tobytes(), raw=True)],
    )
    file = folder / "given.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, file, save_as_external_data=True, location=name, size_threshold=0, convert_attribute=False)
    return file


def refused(tmp_path: Path, file: Path, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        scaffold.make("mine", tmp_path / "out", file)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, tmp_path / "absent.onnx", r"absent\.onnx: does not exist$")
    refused(tmp_path, tmp_path, r"is a folder; --model takes an ONNX file$")
    for content in (b"", b"\x80\x04\x95pickle", b"some text"):
        (tmp_path / "model.pkl").write_bytes(content)
        refused(tmp_path, tmp_path / "model.pkl", r"model\.pkl: is damaged or no ONNX file: .*; --model takes an ONNX")


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    file = KINDS["classes"].write(tmp_path / "given.onnx")
    file.write_bytes(file.read_bytes()[:-9])
    refused(tmp_path, file, "is damaged or no ONNX file")


def saved(tmp_path: Path, inputs: list[Any], outputs: list[Any]) -> Path:
    """A file with these, that need not be able to run."""
    nodes = [helper.make_node("Identity", [one.name for one in inputs][:1], [one.name]) for one in outputs]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "given.onnx"
    )
    return tmp_path / "given.onnx"


X = helper.make_tensor_value_info("x", FLOAT, ["N", 2])


def test_a_zipmap_says_how_to_do_without(tmp_path: Path) -> None:
    value = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    maps = helper.make_value_info("output_probability", helper.make_sequence_type_proto(value))
    wanted = r'is a sequence, .* convert with options=\{id\(model\): \{"zipmap": False\}\}$'
    refused(tmp_path, saved(tmp_path, [X], [maps]), wanted)


def test_what_triton_cannot_carry_is_refused(tmp_path: Path) -> None:
    y = helper.make_tensor_value_info("y", TensorProto.COMPLEX64, ["N"])
    refused(tmp_path, saved(tmp_path, [X], [y]), 'output "y": is COMPLEX64, which Triton cannot carry')


def test_dimensions_that_nobody_tells_are_refused(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", FLOAT, None)
    refused(tmp_path, saved(tmp_path, [x], [X]), 'input "x": the file does not say how many dimensions it has')


def test_a_model_without_inputs_is_refused(tmp_path: Path) -> None:
    constant = helper.make_tensor("value", FLOAT, [1], [1.0])
    kind = Kind([("Constant", [], ["y"], {"value": constant})], {}, {"y": (FLOAT, [1])}, None, {})
    refused(tmp_path, kind.write(tmp_path / "given.onnx"), "takes no input that has to be given")
