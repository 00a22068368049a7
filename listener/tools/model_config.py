"""A config.pbtxt: read, with a line for every field, and held against Triton's own rules.

The rules are those of Triton's ValidateModelConfig and of its backends' start: what breaks one keeps the model, and
with it by default the whole server, from starting.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listener.errors import ConfigError
from listener.tools import pbtxt

FILE = "config.pbtxt"

#: Which backend a `platform` means.
PLATFORMS = {
    "onnxruntime_onnx": "onnxruntime",
    "tensorrt_plan": "tensorrt",
    "tensorflow_savedmodel": "tensorflow",
    "tensorflow_graphdef": "tensorflow",
    "pytorch_libtorch": "pytorch",
    "torch_aoti": "pytorch",
}
ENSEMBLE = "ensemble"
#: Backends of NVIDIA's own; there are others.
_BACKENDS = (
    *("onnxruntime", "python", "pytorch", "tensorrt", "tensorflow", "openvino", "dali", "fil", "identity", "vllm"),
    *("tensorrtllm", "repeat", "square"),
)
#: What else they are called.
_ALSO = {
    **dict.fromkeys(("onnx", "ort", "onnxruntime_onnx", "onnx-runtime"), "onnxruntime"),
    **dict.fromkeys(("py", "python3"), "python"),
    **dict.fromkeys(("torch", "libtorch", "torchscript", "pytorch_libtorch"), "pytorch"),
    **dict.fromkeys(("trt", "tensorrt_plan"), "tensorrt"),
    **dict.fromkeys(("tf", "tensorflow_savedmodel", "tensorflow_graphdef"), "tensorflow"),
    **dict.fromkeys(("xgboost", "lightgbm", "sklearn", "treelite"), "fil"),
}
#: High enough for a letter or two that are wrong, as others may name a backend of theirs after one of these.
_NEAR_BACKEND = 0.85
#: What others call Triton's data types.
_TYPES = {
    **dict.fromkeys(("FLOAT", "FLOAT32", "SINGLE"), "FP32"),
    **dict.fromkeys(("DOUBLE", "FLOAT64"), "FP64"),
    **dict.fromkeys(("HALF", "FLOAT16"), "FP16"),
    **dict.fromkeys(("BFLOAT", "BFLOAT16"), "BF16"),
    **dict.fromkeys(("STR", "TEXT", "BYTES"), "STRING"),
    "INT": "INT32",
    "LONG": "INT64",
    "BOOLEAN": "BOOL",
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model's configuration.

    Attributes:
        path: the file; it need not exist.
        message: the protobuf `inference.ModelConfig`, an empty one where there is no file.
        lines: of its fields.
    """

    path: Path
    message: Any
    lines: Any

    def mistake(self, what: str, sentence: str, *field: str | int) -> str:
        """A sentence with file, line and field; the line of what the field is in where it is not there itself."""
        steps = (field[:length] for length in range(len(field), 0, -1))
        line = next((f":{self.lines[step]}" for step in steps if step in self.lines), "")
        return f"{self.path}{line}: {what}: {sentence}"

    @property
    def tensors(self) -> Iterator[tuple[str, int, Any]]:
        """Each declared tensor with "input" or "output" and its index there."""
        for kind in ("input", "output"):
            yield from ((kind, index, entry) for index, entry in enumerate(getattr(self.message, kind)))

    @property
    def complete(self) -> bool:
        """Whether all inputs and outputs are declared, so that no backend fills anything in."""
        both = self.message.input and self.message.output
        return bool(both) and all(entry.dims and entry.data_type for _, _, entry in self.tensors)


def read(path: Path) -> ModelConfig:
    """Reads a config.pbtxt; a file that is not there counts as an empty one.

    Raises:
        ConfigError: it cannot be read, or is not a model configuration; with file and line.
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    message = model_config_pb2.ModelConfig()
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        text_format.Parse(text, message)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not a model configuration: it holds bytes that are not UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except text_format.ParseError as error:
        reason = re.sub(r"^\d+:\d+ : (?:'.*': )?", "", str(error), flags=re.DOTALL)
        hint = _hint(reason, model_config_pb2.DESCRIPTOR.pool)
        raise ConfigError(f"{path}:{error.GetLine() or 1}: not a model configuration: {reason}{hint}") from None
    return ModelConfig(path, message, pbtxt.lines(text))


def type_name(entry: Any) -> str:
    """The data type of an input or output: TYPE_..."""
    return str(entry.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[entry.data_type].name)


def _hint(reason: str, pool: Any) -> str:
    """A guess at what a misspelt field or value was meant to be."""
    if match := re.match(r'Message type "(.+?)" has no field named "(.+?)"', reason):
        known = [field.name for field in pool.FindMessageTypeByName(match[1]).fields]
    elif match := re.match(r'Enum type "(.+?)" has no value named (\w+)', reason):
        known = [value.name for value in pool.FindEnumTypeByName(match[1]).values]
    else:
        return ""
    bare = match[2].upper().removeprefix("TYPE_")
    if (alias := f"TYPE_{_TYPES.get(bare, bare)}") in known:
        return f" Did you mean {alias!r}?"
    near = difflib.get_close_matches(match[2], known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def check(config: ModelConfig, folder: str, max_batch_size: int | None) -> Iterator[str]:
    """What is wrong with a configuration by itself.

    Args:
        config: the configuration.
        folder: the name of the model's folder.
        max_batch_size: as it will be once the backend has completed the configuration; None = unknown.

    Yields:
        A sentence per mistake.
    """
    message = config.message
    if message.name and message.name != folder:
        yield config.mistake("name", f"is {message.name!r}, but the model's folder is {folder!r}", "name")
    if message.max_batch_size < 0:
        yield config.mistake("max_batch_size", f"is {message.max_batch_size}, below 0", "max_batch_size")
    yield from _check_backend(config)
    yield from _check_batching(config, max_batch_size)
    for index, group in enumerate(message.instance_group):
        name = group.Kind.Name(group.kind)
        if group.gpus and name in ("KIND_CPU", "KIND_MODEL"):
            sentence = f"lists GPUs, which {name} does not have"
            yield config.mistake("instance_group.gpus", sentence, "instance_group", index, "gpus")
    for kind, index, entry in config.tensors:
        yield from _check_tensor(config, kind, index, entry)


def check_steps(config: ModelConfig, models: Sequence[str]) -> Iterator[str]:
    """Whether the models that an ensemble is made of are there; a sentence for each that is not."""
    for index, step in enumerate(config.message.ensemble_scheduling.step):
        if step.model_name not in models:
            near = difflib.get_close_matches(step.model_name, models, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            where = ("ensemble_scheduling", 0, "step", index, "model_name")
            sentence = f"the repository has no {step.model_name!r}{hint}"
            yield config.mistake("ensemble_scheduling.step.model_name", sentence, *where)


def _check_backend(config: ModelConfig) -> Iterator[str]:
    platform, backend = config.message.platform, config.message.backend
    scheduled = config.message.HasField("ensemble_scheduling")
    if platform == ENSEMBLE and backend:
        yield config.mistake("backend", "an ensemble has none", "backend")
    elif (platform == ENSEMBLE) != scheduled:
        yield config.mistake("ensemble_scheduling", f"goes with platform: {ENSEMBLE!r}, and only with it", "platform")
    elif not backend and platform not in ("", ENSEMBLE, *PLATFORMS):
        near = difflib.get_close_matches(platform, [*PLATFORMS, ENSEMBLE], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        yield config.mistake("platform", f"Triton knows no {platform!r}{hint}", "platform")
    elif backend and (meant := _meant_backend(config)):
        yield config.mistake("backend", f"Triton has no {backend!r}; did you mean {meant!r}?", "backend")
    elif backend and platform and PLATFORMS.get(platform, backend) != backend:
        yield config.mistake("platform", f"{platform!r} does not go with the backend {backend!r}", "platform")


def _meant_backend(config: ModelConfig) -> str:
    """The backend that a name nearly is; "" = it is one, or something else, or its library lies beside the model."""
    name = str(config.message.backend)
    plain = name.lower().strip()
    folder, library = config.path.parent, f"libtriton_{name}.so"
    if name in _BACKENDS or any((place / library).exists() for place in (folder, *folder.glob("*"))):
        return ""
    if plain in _BACKENDS:
        return plain
    near = difflib.get_close_matches(plain, _BACKENDS, n=1, cutoff=_NEAR_BACKEND)
    return _ALSO.get(plain) or next((each for each in near if not plain.startswith(each)), "")


def _check_batching(config: ModelConfig, max_batch_size: int | None) -> Iterator[str]:
    message = config.message
    if message.HasField("dynamic_batching") and max_batch_size == 0:
        sentence = "has no effect without a max_batch_size above 0"
        yield config.mistake("dynamic_batching", sentence, "dynamic_batching")
    oldest = message.sequence_batching.oldest
    for field, sizes in (
        (("dynamic_batching", 0), message.dynamic_batching.preferred_batch_size),
        (("sequence_batching", 0, "oldest", 0), oldest.preferred_batch_size),
    ):
        what = ".".join([*(step for step in field if isinstance(step, str)), "preferred_batch_size"])
        for index, size in enumerate(sizes):
            if not 0 < size <= message.max_batch_size:
                sentence = f"{size} is not between 1 and max_batch_size, which is {message.max_batch_size}"
                yield config.mistake(what, sentence, *field, "preferred_batch_size", index)


def _check_tensor(config: ModelConfig, kind: str, index: int, entry: Any) -> Iterator[str]:
    what = f'{kind} "{entry.name}"'
    where = (kind, index)
    if not entry.name:
        yield config.mistake(f"{kind}[{index}].name", "is missing", *where)
    for size in {*entry.dims, *entry.reshape.shape}:
        if size == 0 or size < -1:
            yield config.mistake(f"{what}.dims", f"{size} is no size; it is 1 or more, or -1 for any", *where, "dims")
    if entry.HasField("reshape") and _chunks(entry.dims) != _chunks(entry.reshape.shape):
        sentence = f"{list(entry.reshape.shape)} does not hold as many elements as dims, {list(entry.dims)}"
        yield config.mistake(f"{what}.reshape", sentence, *where, "reshape")
    elif entry.HasField("reshape") and not entry.reshape.shape and config.message.max_batch_size == 0:
        yield config.mistake(f"{what}.reshape", "may be empty only where max_batch_size is above 0", *where, "reshape")
    if kind == "output" and entry.label_filename and not (config.path.parent / entry.label_filename).is_file():
        sentence = f"{config.path.parent / entry.label_filename} does not exist"
        yield config.mistake(f"{what}.label_filename", sentence, *where, "label_filename")


def _chunks(dims: Sequence[int]) -> list[int]:
    """Elements between the dimensions of any size; two shapes agree where these do."""
    products = [1]
    for size in dims:
        if size == -1:
            products.append(1)
        else:
            products[-1] *= size
    return products
