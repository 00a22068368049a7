"""The rules of the backend pytorch, which need no torch. tests/image/test_torch.py serves models with it."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.triton.backends.parts import modules

TENSOR, STRINGS, DICT = "Tensor", "List[str]", "Dict[str, Tensor]"


@pytest.fixture(scope="module")
def parts() -> Iterator[SimpleNamespace]:
    names = ("shared_cpus", "shared_config", "pt_config", "pt_file", "pt_module", "pt_results")
    with modules("pytorch", *names) as found:
        yield SimpleNamespace(
            **dict(zip(("cpus", "shared", "config", "file", "module", "results"), found, strict=True))
        )


def entry(name: str, data_type: str = "TYPE_FP32", dims: tuple[int, ...] = (2,), **more: Any) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": [str(size) for size in dims], **more}


def configuration(inputs: list[Any], outputs: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    """As Triton gives it; a name stands for a whole declaration."""
    made = [[entry(one) if isinstance(one, str) else one for one in each] for each in (inputs, outputs or ["y"])]
    return {"name": "m", "max_batch_size": 0, "input": made[0], "output": made[1], **more}


def plan(parts: SimpleNamespace, config: dict[str, Any], *arguments: str | tuple[str, str]) -> tuple[Any, list[str]]:
    """The plan for arguments of forward(), which are tensors unless said otherwise, and the warnings."""
    lines: list[str] = []
    pairs = [(each, TENSOR) if isinstance(each, str) else each for each in arguments]
    return parts.config.plan(config, [parts.config.Argument(*pair) for pair in pairs], lines.append), lines


def refusal(parts: SimpleNamespace, config: dict[str, Any], *arguments: str | tuple[str, str]) -> str:
    with pytest.raises(parts.shared.LoadError) as raised:
        plan(parts, config, *arguments)
    sentence = str(raised.value)
    assert sentence.startswith("model 'm': ")
    assert "\n" not in sentence
    return sentence


# ---------------------------------------------------------------------------------------- which input is which argument


@pytest.mark.parametrize(
    ("inputs", "order", "warned"),
    [
        (["b", "a", "c"], ("a", "b", "c"), False),
        (["x__2", "y__0", "z__1"], ("y__0", "z__1", "x__2"), False),
        (["x__2", "a", "z__1"], ("x__2", "a", "z__1"), True),
        (["p", "q", "r"], ("p", "q", "r"), True),
        (["a", "b", "q"], ("a", "b", "q"), True),
        (["x__2", "my__net__1", "z__0"], ("x__2", "my__net__1", "z__0"), True),  # the first __ counts
        (["x__", "y__2", "z__1"], ("x__", "z__1", "y__2"), False),  # no digit is 0 to the native backend
    ],
)
def test_inputs_go_by_name_by_index_or_by_order(
    parts: SimpleNamespace, inputs: list[str], order: tuple[str, ...], warned: bool
) -> None:
    found, lines = plan(parts, configuration(inputs), "a", "b", "c")
    assert (found.inputs, found.by_key) == (order, False)
    assert bool(lines) is warned
    if warned:
        assert f"'{inputs[0]}' is a, '{inputs[1]}' is b, '{inputs[2]}' is c" in lines[0]


def test_a_single_input_may_have_any_name(parts: SimpleNamespace) -> None:
    found, lines = plan(parts, configuration(["anything"]), "x")
    assert (found.inputs, lines) == (("anything",), [])


def test_names_of_arguments_come_before_indices(parts: SimpleNamespace) -> None:
    assert plan(parts, configuration(["x__0", "x__1"]), "x__1", "x__0")[0].inputs == ("x__1", "x__0")


def test_the_inputs_of_a_dictionary_are_its_keys(parts: SimpleNamespace) -> None:
    found, lines = plan(parts, configuration(["p", "q__7"]), ("x", DICT))
    assert (found.inputs, found.by_key, lines) == (("p", "q__7"), True, [])


@pytest.mark.parametrize(
    ("inputs", "arguments", "words"),
    [
        (["x__0", "y__2"], ("a", "b"), "input 'y__2' means argument 2 of forward(), which has 2, from 0 on"),
        (["x__1", "y__1"], ("a", "b"), "inputs 'x__1' and 'y__1' have the same index, 1"),
        (["a"], ("a", "b"), "declares 1 inputs, but forward() takes 2 (a, b), and needs one for each, defaults or not"),
        (["a", "b"], (), "declares 2 inputs, but forward() takes 0 (none)"),
        (["a"], (("a", "int"),), "argument 'a' of forward() is a int; Triton can give it a Tensor, a List[str], or as"),
        (["a", "b"], (("a", DICT), ("b", DICT)), "argument 'a' of forward() is a Dict[str, Tensor]; "),
        (["a"], (("a", "List[Tensor]"),), "argument 'a' of forward() is a List[Tensor]; "),
        (["a"], (("a", STRINGS),), "declares input 'a' as TYPE_FP32, but argument 'a' of forward() is a List[str]"),
        (
            [entry("a", "TYPE_STRING")],
            ("a",),
            "declares input 'a' as TYPE_STRING, but argument 'a' of forward() is a T",
        ),
        ([entry("a", "TYPE_STRING")], (("x", DICT),), "in which an input of TYPE_STRING has no place"),
        (
            [entry("a", "TYPE_UINT16")],
            ("a",),
            "declares input 'a' as TYPE_UINT16, which Triton's PyTorch backends do not",
        ),
        ([entry("a", optional=True)], ("a",), "input 'a' is optional, which a TorchScript model has not"),
        (
            [entry("a", allow_ragged_batch=True)],
            ("a",),
            "input 'a' sets allow_ragged_batch, which this backend does not",
        ),
        ([entry("a", "TYPE_STRING", (-1, 2))], (("a", STRINGS),), "one string for each is dims: [ -1 ]"),
    ],
)
def test_inputs_that_contradict_forward(
    parts: SimpleNamespace, inputs: list[Any], arguments: tuple[Any, ...], words: str
) -> None:
    assert words in refusal(parts, configuration(inputs), *arguments)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"platform": "torch_aoti"}, 'config.pbtxt has platform: "torch_aoti", which only'),
        ({"batch_input": [{}]}, "config.pbtxt has batch_input, which"),
        ({"batch_output": [{}]}, "config.pbtxt has batch_output, which"),
        (
            {"sequence_batching": {"control_input": [{"name": "START__1"}]}},
            "has sequence_batching.control_input, which",
        ),
        ({"sequence_batching": {"state": [{}]}}, "has sequence_batching.state, which"),
    ],
)
def test_what_only_the_native_backend_has(parts: SimpleNamespace, more: dict[str, Any], words: str) -> None:
    assert words in refusal(parts, configuration(["a"], **more), "a")


def test_sequences_without_controls_and_states_need_nothing(parts: SimpleNamespace) -> None:
    plan(parts, configuration(["a"], sequence_batching={"control_input": [], "state": []}, batch_input=[]), "a")


def test_a_batch_of_strings_is_one_for_each_row(parts: SimpleNamespace) -> None:
    strings = entry("a", "TYPE_STRING", (1,))
    words = "one string for each is dims: [ 1 ] reshape { shape: [ ] }"
    assert words in refusal(parts, configuration([strings], max_batch_size=4), ("a", STRINGS))
    plan(parts, configuration([{**strings, "reshape": {"shape": []}}], max_batch_size=4), ("a", STRINGS))
    plan(parts, configuration([strings]), ("a", STRINGS))


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([], ["y"]),
        (["x"], []),
        ([{"name": "x"}], ["y"]),
        (["x"], [{"name": "y", "data_type": "TYPE_FP32", "dims": []}]),
    ],
)
def test_what_is_not_declared_is_asked_for(parts: SimpleNamespace, inputs: list[Any], outputs: list[Any]) -> None:
    config = {**configuration(inputs), "output": [entry(each) if each == "y" else each for each in outputs]}
    arguments = [parts.config.Argument("x", TENSOR), parts.config.Argument("words", STRINGS)]
    with pytest.raises(parts.shared.LoadError, match="must declare every input and output") as raised:
        parts.config.require_complete(config, lambda: arguments)
    assert str(raised.value).endswith("its forward() is forward(x: Tensor, words: List[str])")


def test_a_complete_declaration_opens_no_file(parts: SimpleNamespace) -> None:
    parts.config.require_complete(configuration(["x"]), lambda: pytest.fail("asked for the arguments"))


# ----------------------------------------------------------------------------------------- which output is which result


@pytest.mark.parametrize(
    ("outputs", "places"),
    [
        (["y__1", "z__0"], {"y__1": 1, "z__0": 0}),
        (["y__3"], {"y__3": 3}),
        (["y", "z__0"], {"y": 0, "z__0": 1}),
        (["y", "z"], {"y": 0, "z": 1}),
    ],
)
def test_outputs_go_by_index_or_by_order(parts: SimpleNamespace, outputs: list[str], places: dict[str, int]) -> None:
    assert plan(parts, configuration(["x"], outputs), "x")[0].outputs == places


def test_two_outputs_with_one_index(parts: SimpleNamespace) -> None:
    words = "outputs 'y__1' and 'z__1' have the same index, 1"
    assert words in refusal(parts, configuration(["x"], ["y__1", "z__1"]), "x")


def tensor(dtype: str = "torch.float32", rank: int = 1) -> SimpleNamespace:
    return SimpleNamespace(dtype=dtype, dim=lambda: rank)


@pytest.mark.parametrize(
    ("given", "count"), [(tensor(), 1), (["a", "b"], 1), ((tensor(), ["a"], tensor()), 3), ((), 0), ([], 1)]
)
def test_results_that_triton_can_take(parts: SimpleNamespace, given: Any, count: int) -> None:
    assert len(parts.results.results_of(given)) == count


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"a": tensor()}, "result 0 of forward() is a dict; Triton can take a Tensor, a List[str] or a tuple of these"),
        ([tensor()], "result 0 of forward() is a list; "),
        ((tensor(), 3), "result 1 of forward() is a int; "),
        ((tensor(), (tensor(),)), "result 1 of forward() is a tuple; "),
        (None, "result 0 of forward() is a NoneType; "),
    ],
)
def test_results_of_another_kind(parts: SimpleNamespace, given: Any, words: str) -> None:
    with pytest.raises(ValueError, match="Triton can take") as raised:
        parts.results.results_of(given)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (tensor("torch.float64"), "declares output 'y' as TYPE_FP32, but the model gave TYPE_FP64"),
        (tensor("torch.bfloat16"), "declares output 'y' as TYPE_FP32, but the model gave torch.bfloat16"),
        (["a"], "declares output 'y' as TYPE_FP32, but the model gave TYPE_STRING"),
        (tensor(rank=0), "output 'y' is a scalar, which Triton's PyTorch backends do not have"),
    ],
)
def test_results_that_are_declared_otherwise(parts: SimpleNamespace, result: Any, words: str) -> None:
    found, _ = plan(parts, configuration(["x"]), "x")
    parts.results.check_results(found, (tensor(),))
    with pytest.raises(ValueError, match="output 'y'") as raised:
        parts.results.check_results(found, (result,))
    assert words in str(raised.value)


def test_an_output_that_the_model_does_not_give(parts: SimpleNamespace) -> None:
    found, _ = plan(parts, configuration(["x"], ["y__2"]), "x")
    with pytest.raises(
        ValueError, match=r"'y__2' refers to an output index which doesn't exist, 2: forward\(\) gave 1"
    ):
        parts.results.check_results(found, (tensor(),))


# ----------------------------------------------------------------------------------------------------------- parameters


def options(parts: SimpleNamespace, **given: str) -> Any:
    parameters = {name: {"string_value": text} for name, text in given.items()}
    return parts.module.options_of(configuration(["x"], parameters=parameters, instance_group=[{"count": 2}]))


def test_what_is_not_given_is_left_as_it_is(parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.cpus, "usable_cpus", lambda: 8)
    assert options(parts) == parts.module.Options(4, 4)
    assert options(parts, INTRA_OP_THREAD_COUNT="0", OTHER="x") == parts.module.Options(4, 4)


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({"INTRA_OP_THREAD_COUNT": "3", "INTER_OP_THREAD_COUNT": "1"}, {"intra_op_threads": 3, "inter_op_threads": 1}),
        ({"INFERENCE_MODE": "false"}, {"inference_mode": False}),
        ({"INFERENCE_MODE": "True"}, {}),
        ({"DISABLE_OPTIMIZED_EXECUTION": "1"}, {"optimized": False}),
        ({"DISABLE_CUDNN": "on"}, {"cudnn": False}),
        ({"ENABLE_CACHE_CLEANING": "true"}, {"cache_cleaning": True}),
        ({"ENABLE_WEIGHT_SHARING": "true"}, {}),
        (
            {"ENABLE_JIT_PROFILING": "false", "ENABLE_TENSOR_FUSER": "true"},
            {"jit_switches": (("ENABLE_TENSOR_FUSER", True), ("ENABLE_JIT_PROFILING", False))},
        ),
        ({"ENABLE_JIT_EXECUTOR": "off"}, {"jit_switches": (("ENABLE_JIT_EXECUTOR", False),)}),
    ],
)
def test_parameters(
    parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], changed: dict[str, Any]
) -> None:
    monkeypatch.setattr(parts.cpus, "usable_cpus", lambda: 8)
    expected = {"intra_op_threads": 4, "inter_op_threads": 4, **changed}
    assert options(parts, **given) == parts.module.Options(**expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"INFERENCE_MODE": "yes"}, """the parameter INFERENCE_MODE must be "true" or "false", not 'yes'"""),
        ({"ENABLE_WEIGHT_SHARING": ""}, """the parameter ENABLE_WEIGHT_SHARING must be "true" or "false", not ''"""),
        ({"INTER_OP_THREAD_COUNT": "-1"}, "the parameter INTER_OP_THREAD_COUNT must be a whole number, not '-1'"),
        ({"INTRA_OP_THREAD_COUNT": "two"}, "the parameter INTRA_OP_THREAD_COUNT must be a whole number, not 'two'"),
    ],
)
def test_parameters_with_a_wrong_value(parts: SimpleNamespace, given: dict[str, str], words: str) -> None:
    with pytest.raises(parts.shared.LoadError) as raised:
        options(parts, **given)
    assert words in str(raised.value)


# ------------------------------------------------------------------------------------------------ files, torch, the GPU


def archive(file: Path, *names: str) -> Path:
    with zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(f"model/{name}", b"")
    return file


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("data.pkl", "data/0", "version"),
            "was written by torch.save (a state_dict or a pickled module), which is no",
        ),
        (("models/model.json", "archive_format"), "was written by torch.export, which is no TorchScript"),
        (("serialized_exported_program.json",), "was written by torch.export, which is no TorchScript"),
        (("word/document.xml",), "is an archive, but no TorchScript"),
        (("data.pkl", "constants.pkl", "code/__torch__.py"), ""),
    ],
)
def test_what_kind_of_archive_it_is(parts: SimpleNamespace, tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    told = parts.file.not_torchscript(archive(tmp_path / "model.pt", *names))
    assert told == (f"{tmp_path / 'model.pt'} " in told and told if words else "")
    assert words in told


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\x80\x02cos\nsystem\n", "is a pickle, as old versions of torch.save"), (b"PK", "is damaged, or")],
)
def test_what_kind_of_file_it_is(parts: SimpleNamespace, tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "model.pt").write_bytes(data)
    assert words in parts.file.not_torchscript(tmp_path / "model.pt")


def load(parts: SimpleNamespace, folder: Path, **config: Any) -> None:
    """With a torch that can load nothing."""

    def refuse(file: str, map_location: str) -> None:
        raise RuntimeError("PytorchStreamReader failed\n  because")

    torch = SimpleNamespace(jit=SimpleNamespace(load=refuse), __version__="2")
    file = parts.shared.model_file(configuration(["x"], **config), str(folder), "model.pt")
    parts.module.load(torch, "m", file, "cpu", [].append)


def test_a_file_that_cannot_be_loaded(parts: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(parts.shared.LoadError, match=r"^model 'm': there is no file .*/model.pt$"):
        load(parts, tmp_path)
    with pytest.raises(parts.shared.LoadError, match=r"there is no file .*/net.pt$"):
        load(parts, tmp_path, default_model_filename="net.pt")
    archive(tmp_path / "model.pt", "data.pkl")
    with pytest.raises(
        parts.shared.LoadError, match=r"no TorchScript; export it with torch.jit.script\(model\).save\("
    ):
        load(parts, tmp_path)
    archive(tmp_path / "model.pt", "constants.pkl", "code/x.py")
    with pytest.raises(parts.shared.LoadError, match=r"torch 2 cannot load .*: PytorchStreamReader failed because$"):
        load(parts, tmp_path)


@pytest.mark.parametrize(("module", "lines"), [({"training": False}, 0), ({"training": True}, 1)])
def test_a_model_is_left_in_its_mode(parts: SimpleNamespace, module: dict[str, bool], lines: int) -> None:
    made, told = SimpleNamespace(forward=None, **module), list[str]()
    torch = SimpleNamespace(jit=SimpleNamespace(load=lambda file, map_location: made))
    assert parts.module.load(torch, "m", Path("model.pt"), "cpu", told.append) is made
    assert (len(told), made.training) == (lines, module["training"])
    del made.forward
    with pytest.raises(parts.shared.LoadError, match=r"model 'm': model.pt has no forward\(\), which Triton calls"):
        parts.module.load(torch, "m", Path("model.pt"), "cpu", told.append)


def test_a_missing_torch_names_the_remedy(parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (None, SimpleNamespace()):  # not installed; an unrelated folder of that name
        monkeypatch.setitem(sys.modules, "torch", module)
        with pytest.raises(parts.shared.LoadError, match=r"model 'm' needs the Python package torch .* pip install"):
            parts.module.require_torch("m")


@pytest.mark.parametrize(
    ("kind", "cuda", "device", "warned"),
    [
        ("GPU", True, "cuda:1", False),
        ("GPU", False, "cpu", True),
        ("CPU", True, "cpu", False),
        ("MODEL", True, None, False),
        ("MODEL", False, "cpu", False),
    ],
)
def test_the_gpu_is_used_where_torch_has_it(
    parts: SimpleNamespace, kind: str, cuda: bool, device: str | None, warned: bool
) -> None:
    torch, lines = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: cuda)), list[str]()
    assert parts.module.device_of(torch, "m", kind, "1", lines.append) == device
    told = ["model 'm': torch has no CUDA here, so this GPU instance computes on the CPU"]
    assert lines == (told if warned else [])


def test_strings_come_back_as_bytes(parts: SimpleNamespace) -> None:
    made = parts.module._array(["a", "ä", ""])
    assert (made.dtype, made.tolist()) == (np.dtype(object), [b"a", "ä".encode(), b""])


SCRIPT = """The following operation failed in the TorchScript interpreter.
Traceback of TorchScript (most recent call last):
  File "m.py", line 7, in forward
        return x @ self.w
               ~~~~~~~~~~ <--- HERE
RuntimeError: mat1 and mat2 shapes cannot be multiplied
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SCRIPT, "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("expected 2\n  got 3", "expected 2 got 3"),
        ("wrong\nException raised from f at x.cpp:1 (most recent call first):\nframe #0: ...", "wrong"),
        ("", "RuntimeError"),
    ],
)
def test_an_error_of_the_model_is_one_line(parts: SimpleNamespace, text: str, told: str) -> None:
    assert parts.results.reason(RuntimeError(text)) == told
