"""A config.pbtxt and the forward() of a TorchScript model: which input is which argument, which output which result.

The rules are those of Triton's native PyTorch backend (triton-inference-server/pytorch_backend,
src/pt/model_instance_state.cc), so that a model that loads here loads there as well:

* the configuration declares all inputs and outputs, one input for each argument of forward(), those with a default too;
* inputs go by name where all of them are names of arguments, else by index where all are `<name>__<index>`, else in the
  order of the configuration; the inputs of a forward() that takes one Dict[str, Tensor] are its keys;
* outputs go by index where all are `<name>__<index>`, else in the order of the configuration;
* an argument is a Tensor or a List[str], a result a Tensor, a List[str] or a tuple of these.

Beyond the native rules, a contradiction that the native backend would tell with every request is told when the model is
loaded, as far as it can be seen there. Only the standard library and the modules of _shared are needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared_config import Config, LoadError, is_complete, shape_of

Log = Callable[[str], None]

# Triton's name of each of torch's element types that both sides know. The native backend has no BF16, and no unsigned
# integers above UINT8.
TRITON_TYPES = {
    "torch.bool": "TYPE_BOOL",
    "torch.uint8": "TYPE_UINT8",
    "torch.int8": "TYPE_INT8",
    "torch.int16": "TYPE_INT16",
    "torch.int32": "TYPE_INT32",
    "torch.int64": "TYPE_INT64",
    "torch.float16": "TYPE_FP16",
    "torch.float32": "TYPE_FP32",
    "torch.float64": "TYPE_FP64",
}
STRING = "TYPE_STRING"
_TENSOR, _STRINGS, _DICT = "Tensor", "List[str]", "Dict[str, Tensor]"
_EXPORT = "export it with torch.jit.script(model).save('model.pt') or torch.jit.trace(model, example).save('model.pt')"


@dataclass(frozen=True)
class Argument:
    """One argument of forward(), without self; `type` as TorchScript writes it, such as "Tensor"."""

    name: str
    type: str


@dataclass(frozen=True)
class Plan:
    """How the tensors of a request become a call, and its results tensors.

    Attributes:
        inputs: names of inputs, in the order of forward()'s arguments.
        by_key: forward() takes one dictionary, whose keys are these names.
        outputs: place of each declared output among the results.
        data_types: of each declared output: TYPE_...
    """

    inputs: tuple[str, ...]
    by_key: bool
    outputs: dict[str, int]
    data_types: dict[str, str]


def how_to_export(model: str, what: str) -> LoadError:
    """For a file that is no TorchScript."""
    return LoadError(f"model '{model}': {what}; {_EXPORT}")


def require_complete(config: Config, arguments: Callable[[], Sequence[Argument]]) -> None:
    """A TorchScript file holds neither shapes nor the names of its outputs, so they must stand in the configuration.

    Args:
        config: the model configuration.
        arguments: gives those of forward(), for the sentence; called only where something is missing.

    Raises:
        LoadError: an input or output is not declared, or without data type or dims; or from `arguments`.
    """
    if not is_complete(config):
        taken = ", ".join(f"{argument.name}: {argument.type}" for argument in arguments())
        raise _error(
            config,
            "config.pbtxt must declare every input and output with name, data_type and dims, as a TorchScript file "
            f"does not hold them; its forward() is forward({taken})",
        )


def plan(config: Config, arguments: Sequence[Argument], warn: Log) -> Plan:
    """Holds a complete configuration against forward().

    Args:
        config: the model configuration.
        arguments: of forward().
        warn: gets one line where the names of inputs say nothing, so that only their order counts.

    Raises:
        LoadError: they contradict each other, or the configuration wants what this backend does not have.
    """
    _check_wishes(config)
    for kind in ("input", "output"):
        for entry in config[kind]:
            _check_entry(config, kind, entry)
    inputs, by_key = _inputs(config, arguments, warn)
    outputs = _indices(config, "output") or {entry["name"]: place for place, entry in enumerate(config["output"])}
    return Plan(inputs, by_key, outputs, {entry["name"]: entry["data_type"] for entry in config["output"]})


def _error(config: Config, message: str) -> LoadError:
    return LoadError(f"model '{config['name']}': {message}")


def _check_wishes(config: Config) -> None:
    if config.get("platform") == "torch_aoti":
        raise _error(config, 'config.pbtxt has platform: "torch_aoti", which only the native backend serves')
    for key in ("batch_input", "batch_output"):
        if config.get(key):
            raise _error(config, f"config.pbtxt has {key}, which this backend does not have, only the native one")
    batching = config.get("sequence_batching", {})
    for key in ("control_input", "state"):
        if batching.get(key):
            raise _error(
                config,
                f"config.pbtxt has sequence_batching.{key}, which this backend does not have, only the native one",
            )


def _check_entry(config: Config, kind: str, entry: Config) -> None:
    where, data_type = f"{kind} '{entry['name']}'", entry["data_type"]
    if data_type != STRING and data_type not in TRITON_TYPES.values():
        raise _error(
            config, f"config.pbtxt declares {where} as {data_type}, which Triton's PyTorch backends do not have"
        )
    if entry.get("optional"):
        raise _error(
            config, f"{where} is optional, which a TorchScript model has not: forward() gets all its arguments"
        )
    if entry.get("allow_ragged_batch"):
        raise _error(config, f"{where} sets allow_ragged_batch, which this backend does not have, only the native one")
    batched = config["max_batch_size"] > 0
    if data_type == STRING and len(shape_of(entry)) + batched > 1:
        remedy = "dims: [ 1 ] reshape { shape: [ ] }" if batched else "dims: [ -1 ]"
        raise _error(
            config,
            f"{where} has strings in more than one dimension (the batch is one), which cannot be a List[str]; "
            f"one string for each is {remedy}",
        )


def _inputs(config: Config, arguments: Sequence[Argument], warn: Log) -> tuple[tuple[str, ...], bool]:
    """The names of the inputs in the order of the arguments, and whether they are keys of one dictionary."""
    declared = {entry["name"]: entry["data_type"] for entry in config["input"]}
    if len(arguments) == 1 and arguments[0].type == _DICT:
        if STRING in declared.values():
            raise _error(config, f"forward() takes a {_DICT}, in which an input of TYPE_STRING has no place")
        return tuple(declared), True
    for argument in arguments:
        if argument.type not in (_TENSOR, _STRINGS):
            raise _error(
                config,
                f"argument '{argument.name}' of forward() is a {argument.type}; Triton can give it a {_TENSOR}, "
                f"a {_STRINGS}, or as its only argument a {_DICT}",
            )
    if len(arguments) != len(declared):
        names = ", ".join(argument.name for argument in arguments) or "none"
        raise _error(
            config,
            f"config.pbtxt declares {len(declared)} inputs, but forward() takes {len(arguments)} ({names}), and needs "
            "one for each, defaults or not",
        )
    ordered = _ordered(config, list(declared), [argument.name for argument in arguments], warn)
    for name, argument in zip(ordered, arguments, strict=True):
        if (declared[name] == STRING) != (argument.type == _STRINGS):
            raise _error(
                config,
                f"config.pbtxt declares input '{name}' as {declared[name]}, but argument '{argument.name}' of "
                f"forward() is a {argument.type}",
            )
    return ordered, False


def _ordered(config: Config, names: list[str], arguments: list[str], warn: Log) -> tuple[str, ...]:
    if set(names) == set(arguments):
        return tuple(arguments)
    if indices := _indices(config, "input"):
        if max(indices.values()) >= len(arguments):
            name = max(indices, key=indices.__getitem__)
            raise _error(
                config,
                f"input '{name}' means argument {indices[name]} of forward(), which has {len(arguments)}, from 0 on",
            )
        return tuple(sorted(names, key=indices.__getitem__))
    if len(names) > 1:
        pairs = ", ".join(f"'{name}' is {argument}" for name, argument in zip(names, arguments, strict=True))
        warn(
            f"model '{config['name']}': not all inputs have names of forward()'s arguments or <name>__<index>, so "
            f"their order in config.pbtxt counts: {pairs}"
        )
    return tuple(names)


def _indices(config: Config, kind: str) -> dict[str, int]:
    """The index in each name; empty where not all have one.

    Raises:
        LoadError: two have the same.
    """
    found: dict[str, int] = {}
    for entry in config[kind]:
        index = index_of(entry["name"])
        if index is None:
            return {}
        found[entry["name"]] = index
    seen: dict[int, str] = {}
    for name, index in found.items():
        if index in seen:
            raise _error(config, f"{kind}s '{seen[index]}' and '{name}' have the same index, {index}")
        seen[index] = name
    return found


def index_of(name: str) -> int | None:
    """The whole number behind the first `__`, none there being 0 as in the native backend; None = there is no index."""
    _, mark, digits = name.partition("__")
    return int(digits or 0) if mark and (not digits or (digits.isascii() and digits.isdigit())) else None
