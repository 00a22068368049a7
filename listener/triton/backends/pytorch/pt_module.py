"""Opens a TorchScript model with torch: which file, which options, how many threads, CPU or GPU.

The parameters in config.pbtxt have the names and meanings of Triton's native PyTorch backend
(triton-inference-server/pytorch_backend, src/pt/model_state.cc): `INFERENCE_MODE`, `DISABLE_OPTIMIZED_EXECUTION`,
`DISABLE_CUDNN`, `ENABLE_CACHE_CLEANING`, `ENABLE_TENSOR_FUSER`, `ENABLE_JIT_PROFILING`, `ENABLE_JIT_EXECUTOR`,
`INTRA_OP_THREAD_COUNT` and `INTER_OP_THREAD_COUNT`. `ENABLE_WEIGHT_SHARING` is accepted and does nothing, as each
instance is a process of its own. Threads that are not given are the usable CPUs, divided by the instances.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pt_config import Argument, Log, Plan, how_to_export
from pt_file import not_torchscript
from pt_results import check_results, reason, results_of
from shared_batch import Array, Arrays, Run
from shared_config import Config, LoadError, one_line, text_of, wrong_parameter
from shared_cpus import threads_each

# As the native backend takes them, in capitals or not.
_BOOLEANS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}

# What sets those switches that change nothing unless they are given. torch has no public names for them.
_JIT_SWITCHES = {
    "ENABLE_TENSOR_FUSER": "_jit_set_texpr_fuser_enabled",
    "ENABLE_JIT_PROFILING": "_jit_set_profiling_mode",
    "ENABLE_JIT_EXECUTOR": "_jit_set_profiling_executor",
}


@dataclass(frozen=True)
class Options:
    """What the parameters ask for; a switch that is None is left as torch has it."""

    intra_op_threads: int
    inter_op_threads: int
    inference_mode: bool = True
    optimized: bool = True
    cudnn: bool = True
    cache_cleaning: bool = False
    jit_switches: tuple[tuple[str, bool], ...] = ()


def options_of(config: Config) -> Options:
    """Reads the parameters.

    Raises:
        LoadError: one has a value that it cannot have.
    """
    _boolean(config, "ENABLE_WEIGHT_SHARING")
    threads = threads_each(config)
    switches = {name: _boolean(config, name) for name in _JIT_SWITCHES}
    return Options(
        intra_op_threads=_count(config, "INTRA_OP_THREAD_COUNT") or threads,
        inter_op_threads=_count(config, "INTER_OP_THREAD_COUNT") or threads,
        inference_mode=_boolean(config, "INFERENCE_MODE") is not False,
        optimized=not _boolean(config, "DISABLE_OPTIMIZED_EXECUTION"),
        cudnn=not _boolean(config, "DISABLE_CUDNN"),
        cache_cleaning=bool(_boolean(config, "ENABLE_CACHE_CLEANING")),
        jit_switches=tuple((name, switch) for name, switch in switches.items() if switch is not None),
    )


def _boolean(config: Config, name: str) -> bool | None:
    text = text_of(config, name)
    if text is not None and text.lower() not in _BOOLEANS:
        raise wrong_parameter(config, name, '"true" or "false"')
    return None if text is None else _BOOLEANS[text.lower()]


def _count(config: Config, name: str) -> int:
    text = text_of(config, name) or "0"
    if not (text.isascii() and text.isdigit()):
        raise wrong_parameter(config, name, "a whole number")
    return int(text)


def require_torch(model: str) -> Any:
    """The module torch.

    Raises:
        LoadError: it is not installed, or cannot be loaded.
    """
    try:
        import torch

        # A folder of that name on the path imports as an empty module.
        _ = torch.jit.load
    except (ImportError, AttributeError, OSError) as error:
        raise LoadError(
            f"model '{model}' needs the Python package torch in {sys.prefix}: pip install torch ({one_line(error)})"
        ) from error
    return torch


def device_of(torch: Any, model: str, kind: str, device_id: str, warn: Log) -> str | None:
    """Where an instance computes; None = where the file says.

    Args:
        torch: the module.
        model: its name.
        kind: of the instance, as Triton gives it: "CPU", "GPU" or "MODEL".
        device_id: the GPU, for kind "GPU".
        warn: gets one line where a GPU was asked for and the CPU is used.
    """
    if kind == "GPU" and torch.cuda.is_available():
        return f"cuda:{device_id}"
    if kind == "GPU":
        warn(f"model '{model}': torch has no CUDA here, so this GPU instance computes on the CPU")
    return None if kind == "MODEL" and torch.cuda.is_available() else "cpu"


def load(torch: Any, model: str, file: Path, device: str | None, warn: Log) -> Any:
    """The ScriptModule in a file. Nothing but TorchScript is read: a pickle could run anything.

    It stays in the mode in which it was saved, as with the native backend; one line where that is not eval().

    Raises:
        LoadError: it is no TorchScript, has no forward(), or torch cannot load it.
    """
    try:
        module = torch.jit.load(str(file), map_location=device)
    except Exception as error:
        raise _cannot_load(torch, model, file, error) from error
    if not hasattr(module, "forward"):
        raise LoadError(f"model '{model}': {file} has no forward(), which Triton calls")
    if module.training:
        warn(f"model '{model}': {file} was saved in training mode (dropout and the like): save model.eval()")
    return module


def _cannot_load(torch: Any, model: str, file: Path, error: Exception) -> LoadError:
    if what := not_torchscript(file):
        return how_to_export(model, what)
    return LoadError(f"model '{model}': torch {torch.__version__} cannot load {file}: {reason(error)}")


def arguments_of(module: Any) -> Sequence[Argument]:
    """Those of forward(), without self."""
    _, *arguments = module.forward.schema.arguments
    return [Argument(argument.name, argument.type.annotation_str) for argument in arguments]


def prepare(torch: Any, options: Options) -> None:
    """Sets what holds for the whole process; before the first model is loaded."""
    torch.set_num_threads(options.intra_op_threads)
    torch.set_num_interop_threads(options.inter_op_threads)
    torch.backends.cudnn.enabled = options.cudnn
    torch._C._set_graph_executor_optimize(options.optimized)
    for name, switch in options.jit_switches:
        getattr(torch._C, _JIT_SWITCHES[name])(switch)


def runner(torch: Any, module: Any, plan: Plan, device: str | None, options: Options) -> Run:
    """Computes the outputs of a model for the inputs of one or more requests."""

    def run(wanted: list[str], feeds: Arrays) -> list[Array]:
        with torch.inference_mode(options.inference_mode), torch.no_grad():
            given = {name: _given(torch, feeds[name], device) for name in plan.inputs}
            try:
                value = module.forward(given) if plan.by_key else module.forward(*given.values())
            except Exception as error:
                raise RuntimeError(f"PyTorch execute failure: {reason(error)}") from error
            results = results_of(value)
            check_results(plan, results)
            arrays = [_array(results[plan.outputs[name]]) for name in wanted]
        if options.cache_cleaning and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return arrays

    return run


def _given(torch: Any, array: Array, device: str | None) -> Any:
    """A Tensor, or for strings a List[str]."""
    if array.dtype == object:
        return array.tolist()
    tensor = torch.from_numpy(array)
    return tensor if device is None else tensor.to(device)


def _array(result: Any) -> Array:
    if isinstance(result, list):
        return np.array([text.encode() for text in result], dtype=np.object_)
    array: Array = result.detach().cpu().contiguous().numpy()
    return array
