"""`listener check` on repositories: the layout, and config.pbtxt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from listener.tools import checks
from tests.tools.tiny_service import CONFIG, Tiny, onnx_file

BOTH = '"X"\n    data_type: TYPE_FP32\n    dims: [ 2 ]'


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        ('"tiny"', '"other"', "tiny/config.pbtxt:1: name: is 'other', but the model's folder is 'tiny'"),
        ("max_batch_size: 8", "max_batch_size: -1", "tiny/config.pbtxt:3: max_batch_size: is -1, below 0"),
        ("max_batch_size: 8", "max_batch_sise: 8", "tiny/config.pbtxt:3: not a model configuration: Message type "),
        ("TYPE_FP32", "TYPE_FP23", "tiny/config.pbtxt:9: not a model configuration: Enum type "),
        ("{ }", "{", "tiny/config.pbtxt:6: not a model configuration: "),
        (
            "{ }",
            "{\n preferred_batch_size: [ 4, 16 ] }",
            "tiny/config.pbtxt:5: dynamic_batching.preferred_batch_size: 16 is not between 1 and max_batch",
        ),
        (
            "dynamic_batching { }",
            "sequence_batching { oldest { preferred_batch_size: 9 } }",
            "tiny/config.pbtxt:4: sequence_batching.oldest.preferred_batch_size: 9 is not between",
        ),
        (
            "{ }",
            "{ }\ninstance_group [{kind: KIND_CPU gpus: 0}]",
            "tiny/config.pbtxt:5: instance_group.gpus: lists GPUs",
        ),
        ("{ }", "{ }\ninstance_group [{kind: KIND_GPUU}]", "tiny/config.pbtxt:5: not a model configuration: Enum type"),
        ("{ }", '{ }\nplatform: "tensorrt_plan"', "tiny/config.pbtxt:5: platform: 'tensorrt_plan' does not go with"),
        ('backend: "onnxruntime"', 'platform: "onnx"', "tiny/config.pbtxt:2: platform: Triton knows no 'onnx'"),
        (
            "{ }",
            "{ }\nversion_policy: { specific: {\nversions: [ 1, 3 ] } }",
            "tiny/config.pbtxt:6: version_policy.specific.versions: 3 has no folder; there are 1",
        ),
        ('"Y"', '"Y"\n    label_filename: "l.txt"', 'tiny/config.pbtxt:16: output "Y".label_filename: '),
        (BOTH, BOTH.replace("[ 2 ]", "[ 0 ]"), 'tiny/config.pbtxt:10: input "X".dims: 0 is no size'),
        (BOTH, BOTH.replace("[ 2 ]", "[ -2 ]"), 'tiny/config.pbtxt:10: input "X".dims: -2 is no size'),
        (BOTH, BOTH.replace("[ 2 ]", "[ 3 ]"), 'tiny/config.pbtxt:10: input "X".dims: is [3], but '),
        (BOTH, BOTH.replace("[ 2 ]", "[ -1 ]"), 'tiny/config.pbtxt:10: input "X".dims: is [-1], but '),
        (BOTH, BOTH.replace("[ 2 ]", "[ -1, 2 ]"), 'tiny/config.pbtxt:10: input "X".dims: is [-1, 2], but '),
        (BOTH, BOTH.replace("FP32", "FP16"), 'tiny/config.pbtxt:9: input "X".data_type: is TYPE_FP16, but '),
        (BOTH, BOTH + "\n reshape: { shape: [ 3 ] }", 'tiny/config.pbtxt:11: input "X".reshape: [3] does not hold'),
        (BOTH, BOTH + "\n reshape: { shape: [ 2, 1 ] }", 'tiny/config.pbtxt:11: input "X".reshape: is [2, 1], but '),
        (BOTH, BOTH + "\n optional: true", 'tiny/config.pbtxt:11: input "X".optional: is true, but '),
        (BOTH, '"X"', 'tiny/config.pbtxt:7: input "X".data_type: is missing'),
        ('name: "X"', "", "tiny/config.pbtxt:7: input[0].name: is missing"),
        ('"Y"', '"Z"', 'tiny/config.pbtxt:15: output "Z": '),
    ],
)
def test_mistakes_in_a_configuration(tiny: Tiny, old: str, new: str, start: str) -> None:
    tiny.change(old, new)
    assert tiny.mistakes()[0].startswith(start)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name: "tiny"', ""),
        ('backend: "onnxruntime"', ""),
        ('backend: "onnxruntime"', 'platform: "onnxruntime_onnx"'),
        ("max_batch_size: 8", "# max_batch_size: 8"),
        ("{ }", "<\npreferred_batch_size: 4, preferred_batch_size: 8 >"),
        (CONFIG, ""),
        (CONFIG, 'output { name: "Y" data_type: TYPE_FP32 dims: [ 2 ] }'),
        (CONFIG, 'max_batch_size: 2 input { name: "X" data_type: TYPE_FP32 dims: [ 2 ] }'),
        (BOTH, BOTH.replace("[ 2 ]", "[ 2, 1 ]") + "\n reshape: { shape: [ 2 ] }"),
    ],
)
def test_configurations_that_are_in_order(tiny: Tiny, old: str, new: str) -> None:
    tiny.change(old, new)
    expected = ["dynamic_batching"] if "# max" in new else []
    assert [mistake.split(": ")[1] for mistake in tiny.mistakes()][:1] == expected


@pytest.mark.parametrize(
    ("value", "mistakes"),
    [
        ("x", ["the parameter listener_pad is 'x', which cannot fill up input 'X', which is FP32"]),
        ("-1.5", []),
    ],
)
def test_what_rows_shall_be_padded_with(tiny: Tiny, value: str, mistakes: list[str]) -> None:
    onnx_file(tiny.onnx, ("N", "M"), ("N", "M"))
    tiny.config.write_text(
        CONFIG.replace("[ 2 ]", "[ -1 ]")
        + f'parameters {{\n  key: "listener_pad"\n  value {{ string_value: "{value}" }}\n}}\n'
    )
    assert tiny.mistakes() == [f"tiny/config.pbtxt:20: parameters: {sentence}" for sentence in mistakes]


def test_hints_for_what_is_misspelt(tiny: Tiny) -> None:
    tiny.change("max_batch_size", "max_batch_sise")
    assert tiny.mistakes()[0].endswith("Did you mean 'max_batch_size'?")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("onnx", "onnxruntime"),
        ("ONNXRuntime", "onnxruntime"),
        ("onxruntime", "onnxruntime"),
        ("onnx_runtime", "onnxruntime"),
        ("pyton", "python"),
        ("torch", "pytorch"),
        ("trt", "tensorrt"),
        ("tf", "tensorflow"),
        ("xgboost", "fil"),
    ],
)
def test_a_backend_that_is_nearly_one(tiny: Tiny, written: str, meant: str) -> None:
    tiny.change('"onnxruntime"', f'"{written}"')
    assert f"{tiny.config}:2: backend: Triton has no {written!r}; did you mean {meant!r}?" in checks.run(tiny.folder)


@pytest.mark.parametrize("name", ["mine", "python_of_ours", "identity2"])
def test_a_backend_of_ones_own_is_in_order(tiny: Tiny, name: str) -> None:
    tiny.change('"onnxruntime"', f'"{name}"')
    assert checks.run(tiny.folder) == []


def test_a_backend_whose_library_lies_beside_the_model_is_in_order(tiny: Tiny) -> None:
    tiny.change('"onnxruntime"', '"onnx"')
    (tiny.model / "libtriton_onnx.so").touch()
    assert checks.run(tiny.folder) == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("TYPE_FLOAT", "TYPE_FP32"),
        ("TYPE_FLOAT32", "TYPE_FP32"),
        ("FP32", "TYPE_FP32"),
        ("float", "TYPE_FP32"),
        ("TYPE_DOUBLE", "TYPE_FP64"),
        ("TYPE_INT", "TYPE_INT32"),
        ("TYPE_LONG", "TYPE_INT64"),
        ("TYPE_STR", "TYPE_STRING"),
        ("TYPE_BYTES", "TYPE_STRING"),
        ("TYPE_BOOLEAN", "TYPE_BOOL"),
    ],
)
def test_a_data_type_by_another_name(tiny: Tiny, written: str, meant: str) -> None:
    tiny.change("TYPE_FP32", written)
    (mistake,) = checks.run(tiny.folder)
    assert mistake.endswith(f" Did you mean {meant!r}?")


def test_a_configuration_that_is_not_text(tiny: Tiny) -> None:
    tiny.config.write_bytes(b'name: "tiny"\nbackend: "\xff"\n')
    assert tiny.mistakes()[0].startswith("tiny/config.pbtxt:2: not a model configuration: it holds bytes that are not")


def test_no_configuration_at_all(tiny: Tiny) -> None:
    tiny.config.unlink()
    assert tiny.mistakes() == []


def file(path: str, text: str = "x") -> Callable[[Path], None]:
    """Makes one file in a repository."""

    def make(repository: Path) -> None:
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text(text)

    return make


def folder(path: str) -> Callable[[Path], None]:
    return lambda repository: (repository / path).mkdir(parents=True)


TORCH = """backend: "pytorch"
input [ { name: "x__0" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y__0" data_type: TYPE_FP32 dims: [ 2 ] } ]
%s"""
ENSEMBLE = """platform: "ensemble"
ensemble_scheduling { step [ {
  model_name: "%s" model_version: -1 input_map { key: "X" value: "A" } output_map { key: "Y" value: "B" }
} ] }"""


@pytest.mark.parametrize(
    ("makers", "start"),
    [
        ([folder(".git")], ".git: Triton takes every folder of a model repository for a model"),
        ([folder("m/v1")], "m: Triton takes every folder of a model repository for a model"),
        ([file("m/01/model.onnx")], "m/01: Triton passes over version folders with a leading zero; name it 1"),
        ([file("m/-1/model.onnx")], "m/-1: Triton takes this for version -1"),
        ([file("m/1_old/model.onnx")], "m/1_old: Triton takes this for version 1"),
        ([folder("m/99999999999999999999")], "m/99999999999999999999: Triton crashes at a version above"),
        ([file("m/config.pbtxt", 'backend: "python"')], "m: has no version folder; Triton wants a folder such as 1"),
        ([file("m/config.pbtxt", ENSEMBLE % "tiny")], "m: has no version folder; Triton wants an empty folder named 1"),
        ([folder("m/1")], "m/config.pbtxt: backend: is missing, and Triton cannot tell it from the files; "),
        ([folder("tiny/2")], "tiny/2/model.onnx: does not exist; the backend onnxruntime"),
        (
            [folder("m/1"), file("m/config.pbtxt", 'backend: "python"')],
            "m/1/model.py: does not exist; the backend python",
        ),
        ([folder("m/1"), file("m/config.pbtxt", 'backend: "tensorrt"')], "m/1/model.plan: does not exist"),
        ([folder("m/1"), file("m/config.pbtxt", 'backend: "openvino"')], "m/1/model.xml: does not exist"),
        (
            [
                folder("m/1"),
                file("m/config.pbtxt", TORCH.replace('backend: "pytorch"', 'platform: "pytorch_libtorch"') % ""),
            ],
            "m/1/model.pt: does not exist",
        ),
        (
            [folder("m/1"), file("m/config.pbtxt", 'platform: "tensorflow_savedmodel"')],
            "m/1/model.savedmodel: does not",
        ),
        (
            [folder("m/1"), file("m/config.pbtxt", 'backend: "onnxruntime" default_model_filename: "net.onnx"')],
            "m/1/net.onnx: does not exist",
        ),
        ([file("m/1/model.py")], "m/config.pbtxt: does not exist; a Python model can do without only if"),
        ([file("m/1/model.pt")], "m/config.pbtxt: does not exist; a model of the backend pytorch"),
        ([file("m/1/model.onnx", "")], "m/1/model.onnx: is empty"),
        ([file("m/1/model.onnx", "version https://git-lfs.github.com/spec/v1\n")], "m/1/model.onnx: is only a pointer"),
        ([file("m/1/model.onnx", "not at all")], "m/1/model.onnx: is damaged or no ONNX file"),
        (
            [folder("m/1"), file("m/config.pbtxt", ENSEMBLE % "tinny")],
            "m/config.pbtxt:3: ensemble_scheduling.step.model_name: the repository has no 'tinny'; did you mean",
        ),
    ],
)
def test_mistakes_in_the_layout(tiny: Tiny, makers: list[Callable[[Path], None]], start: str) -> None:
    for make in makers:
        make(tiny.repository)
    (mistake,) = tiny.mistakes()
    assert mistake.startswith(start)


@pytest.mark.parametrize(
    "makers",
    [
        [file("README.md")],
        [folder("tiny/assets")],
        [folder("tiny/1_old")],
        [folder("tiny/0")],
        [file("m/1/model.py", "def auto_complete_config(config): ...")],
        [file("m/1/model.py"), file("m/config.pbtxt", 'backend: "python"')],
        [folder("m/1"), file("m/config.pbtxt", 'backend: "mine"')],
        [folder("m/1"), file("m/config.pbtxt", ENSEMBLE % "tiny")],
        [folder("m/1/model.savedmodel")],
        [file("m/3/model.pt"), file("m/config.pbtxt", TORCH % "")],
        [file("m/3/net.pt2"), file("m/config.pbtxt", 'platform: "torch_aoti" default_model_filename: "net.pt2"')],
    ],
)
def test_layouts_that_are_in_order(tiny: Tiny, makers: list[Callable[[Path], None]]) -> None:
    for make in makers:
        make(tiny.repository)
    assert tiny.mistakes() == []


def test_only_the_versions_that_triton_loads_matter(tiny: Tiny) -> None:
    onnx_file(tiny.model / "10" / "model.onnx")
    tiny.onnx.write_text("no model")
    assert tiny.mistakes() == []
    tiny.config.write_text(CONFIG + "version_policy: { all { } }\n")
    assert tiny.mistakes()[0].startswith("tiny/1/model.onnx: is damaged")
