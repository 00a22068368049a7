"""`listener check` on the configurations of TorchScript models."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from listener.tools import torchscript
from tests.tools.tiny_service import Tiny
from tests.triton.backends.parts import modules

CONFIG = """\
backend: "pytorch"
input [
  { name: "x__0" data_type: TYPE_FP32 dims: [ 2 ] },
  { name: "x__1" data_type: TYPE_STRING dims: [ -1 ] }
]
output [
  { name: "y__0" data_type: TYPE_INT64 dims: [ 2 ] }
]
"""
PARAMETER = 'parameters { key: "%s" value { string_value: "%s" } }\n'


def write(tiny: Tiny, text: str) -> None:
    """Makes the model `tiny` one of TorchScript."""
    tiny.onnx.rename(tiny.onnx.with_name("model.pt"))
    tiny.config.write_text(text)


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        ("", "", ""),
        ('"x__0"', '"x"', "4: input \"x__1\": ends in an index, and 'x' does not, so that the order here counts"),
        ('"x__1"', '"mask"', "3: input \"x__0\": ends in an index, and 'mask' does not"),
        ('"x__1"', '"z__0"', "4: input \"z__0\": has the same index as 'x__0'"),
        ('"x__1"', '"x__2"', '4: input "x__2": has the index 2, but there are 2 inputs, from 0 on'),
        ('"y__0"', '"y__7"', ""),
        ("data_type: TYPE_INT64 dims: [ 2 ]", "", '7: output "y__0".data_type: is missing, which a TorchScript file'),
        ("dims: [ -1 ]", "", '4: input "x__1".dims: is missing, which a TorchScript file'),
        ("TYPE_INT64", "TYPE_UINT16", '7: output "y__0".data_type: is TYPE_UINT16, which Triton\'s PyTorch backends'),
        ("TYPE_INT64", "TYPE_BF16", '7: output "y__0".data_type: is TYPE_BF16, which Triton\'s PyTorch backends'),
    ],
)
def test_mistakes_in_what_is_declared(tiny: Tiny, old: str, new: str, start: str) -> None:
    write(tiny, CONFIG.replace(old, new))
    found = tiny.mistakes()
    assert bool(found) is bool(start)
    assert not start or found[0].startswith(f"tiny/config.pbtxt:{start}")


@pytest.mark.parametrize("kind", ["input", "output"])
def test_nothing_is_completed(tiny: Tiny, kind: str) -> None:
    parts = CONFIG.partition("output [")
    write(tiny, 'backend: "pytorch"\noutput [' + parts[2] if kind == "input" else parts[0])
    (mistake,) = tiny.mistakes()
    assert mistake.startswith(f"tiny/config.pbtxt: {kind}: is missing; a TorchScript file does not hold")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("INFERENCE_MODE", "False", ""),
        ("INFERENCE_MODE", "no", "INFERENCE_MODE is 'no', but it must be 'true' or 'false'"),
        ("INTRA_OP_THREAD_COUNT", "2", ""),
        ("INTRA_OP_THREAD_COUNT", "", "INTRA_OP_THREAD_COUNT is '', but it must be a whole number"),
        ("inference_mode", "true", "'inference_mode' has no effect; did you mean 'INFERENCE_MODE'?"),
        ("DISABLE_CUDN", "true", "'DISABLE_CUDN' has no effect; did you mean 'DISABLE_CUDNN'?"),
        ("intra_op_thread_count", "2", "'intra_op_thread_count' has no effect; did you mean 'INTRA_OP_THREAD_COUNT'?"),
        ("mine", "2", ""),
    ],
)
def test_parameters(tiny: Tiny, name: str, value: str, words: str) -> None:
    write(tiny, CONFIG + PARAMETER % (name, value))
    assert tiny.mistakes() == ([f"tiny/config.pbtxt:9: parameters: {words}"] if words else [])


def test_the_native_backends_other_kind_of_file_is_left_alone(tiny: Tiny) -> None:
    tiny.onnx.rename(tiny.onnx.with_name("model.pt2"))
    tiny.config.write_text('backend: "pytorch"\nplatform: "torch_aoti"\n')
    assert tiny.mistakes() == []


@pytest.fixture(scope="module")
def loading() -> Iterator[SimpleNamespace]:
    """What the backend checks when it loads a model."""
    with modules("pytorch", "pt_config", "pt_module") as (config, module):
        yield SimpleNamespace(config=config, module=module)


@pytest.mark.parametrize(
    "name", ["x", "x__0", "x__", "x__12", "a__b__1", "x__1b", "x__\N{SUPERSCRIPT TWO}", "__3", "x_1"]
)
def test_an_index_is_the_same_as_for_the_backend(loading: SimpleNamespace, name: str) -> None:
    assert torchscript.index_of(name) == loading.config.index_of(name)


def test_types_and_parameters_are_those_of_the_backend(loading: SimpleNamespace) -> None:
    types = {*loading.config.TRITON_TYPES.values(), loading.config.STRING}
    assert {f"TYPE_{name}" for name in torchscript._TYPES} == types
    assert set(torchscript._BOOLEANS) == set(loading.module._BOOLEANS)
    for name in (*torchscript._SWITCHES, *torchscript._COUNTS):
        assert f"`{name}`" in loading.module.__doc__
