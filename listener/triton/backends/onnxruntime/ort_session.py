"""Opens the onnxruntime session of a model: which file, how many threads, which options, CPU or GPU.

The parameters in config.pbtxt have the names and meanings of Triton's native onnxruntime backend: `execution_mode`,
`intra_op_thread_count`, `inter_op_thread_count`, `enable_mem_arena`, `enable_mem_pattern`, `optimization.graph.level`
and `model_operations.op_library_filename`. What they leave open is chosen for a machine on which several models and a
web server share few cores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ort_config import Signature, signature_of
from shared_config import Config, LoadError, model_file, one_line, text_of, wrong_parameter
from shared_cpus import threads_each

Log = Callable[[str], None]

DEFAULT_MAX_BATCH_SIZE = 4  # of Triton, where --backend-config gives none


def require_onnxruntime(model: str) -> Any:
    """The module onnxruntime.

    Raises:
        LoadError: it is not installed, or cannot be loaded.
    """
    try:
        import onnxruntime

        # A folder of that name on the path imports as an empty module; one without a session is no onnxruntime.
        _ = onnxruntime.InferenceSession
    except (ImportError, AttributeError) as error:
        raise LoadError(
            f"model '{model}' needs the Python package onnxruntime in {sys.prefix}: "
            f"pip install 'triton-listener[local]' ({error})"
        ) from error
    return onnxruntime


def read_signature(config: Config, session: Any, file: Path) -> Signature:
    """The inputs and outputs of an open session."""
    return signature_of(
        config["name"], file.name, session.get_inputs(), session.get_overridable_initializers(), session.get_outputs()
    )


def open_signature(config: Config, version_folder: str) -> Signature:
    """The inputs and outputs of a model's file, without the cost of preparing it for inference.

    Raises:
        LoadError: as `open_session`.
    """
    ort = require_onnxruntime(config["name"])
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    _register_operators(config, options)
    file = model_file(config, version_folder, "model.onnx")
    return read_signature(config, _open(ort, config, file, options, ["CPUExecutionProvider"]), file)


def open_session(config: Config, version_folder: str, kind: str, device_id: str, log: Log) -> tuple[Any, Signature]:
    """Opens the session of one instance.

    Args:
        config: the model configuration.
        version_folder: `<repository>/<model>/<version>`.
        kind: of the instance, as Triton gives it: "CPU" or "GPU".
        device_id: the GPU, for kind "GPU".
        log: gets one line where a GPU was asked for and the CPU is used.

    Raises:
        LoadError: onnxruntime or the file is missing, the file is damaged or too new, or a parameter is wrong.
    """
    ort = require_onnxruntime(config["name"])
    file = model_file(config, version_folder, "model.onnx")
    wanted = providers(kind, device_id, ort.get_available_providers())
    session = _open(ort, config, file, session_options(ort, config), wanted)
    if kind == "GPU" and "CUDAExecutionProvider" not in session.get_providers():
        log(f"model '{config['name']}': onnxruntime has no CUDA here, so this GPU instance computes on the CPU")
    return session, read_signature(config, session, file)


def runner(session: Any) -> Callable[[list[str], dict[str, Any]], list[Any]]:
    """The session's `run`, less the lines it logs when it fails: the error that it raises says the same."""
    options = require_onnxruntime("").RunOptions()
    options.log_severity_level = 4  # fatal only

    def run(wanted: list[str], feeds: dict[str, Any]) -> list[Any]:
        return list(session.run(wanted, feeds, options))

    return run


def providers(kind: str, device_id: str, available: Iterable[str]) -> list[Any]:
    """The execution providers for an instance, the preferred one first."""
    if kind == "GPU" and "CUDAExecutionProvider" in available:
        return [("CUDAExecutionProvider", {"device_id": device_id}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def _open(ort: Any, config: Config, file: Path, options: Any, wanted: list[Any]) -> Any:
    try:
        return ort.InferenceSession(str(file), options, providers=wanted)
    except Exception as error:  # onnxruntime has one class per status, all directly below Exception
        reason = one_line(error)
        hint = ""
        if "opset" in reason.lower() or "ir version" in reason.lower():
            hint = "; a newer onnxruntime, or an export for an older opset, may help"
        raise LoadError(
            f"model '{config['name']}': onnxruntime {ort.__version__} cannot load {file}: {reason}{hint}"
        ) from error


def session_options(ort: Any, config: Config) -> Any:
    """The session options that `config` asks for.

    Raises:
        LoadError: a parameter has a value that it cannot have.
    """
    options = ort.SessionOptions()
    mode = _parameter(config, "execution_mode", 0)
    if mode not in (0, 1):
        raise LoadError(f"model '{config['name']}': the parameter execution_mode must be 0 or 1, not {mode}")
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    threads = threads_each(config)
    options.intra_op_num_threads = _parameter(config, "intra_op_thread_count", 0) or threads
    # Between nodes there is only work to share in the parallel mode.
    options.inter_op_num_threads = _parameter(config, "inter_op_thread_count", 0) or (threads if mode else 1)
    # A pool that spins keeps most of a core busy at 20 requests per second, for some 30 microseconds less per call.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = bool(_parameter(config, "enable_mem_arena", 1))
    options.enable_mem_pattern = bool(_parameter(config, "enable_mem_pattern", 1))
    levels = {
        -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = levels.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    _register_operators(config, options)
    return options


def _register_operators(config: Config, options: Any) -> None:
    for library in config.get("model_operations", {}).get("op_library_filename", []):
        try:
            options.register_custom_ops_library(library)
        except Exception as error:
            reason = one_line(error)
            raise LoadError(f"model '{config['name']}': cannot load the operators in {library}: {reason}") from error


def _parameter(config: Config, name: str, default: int) -> int:
    text = text_of(config, name)
    if text is None:
        return default
    try:
        value = {"true": 1, "false": 0}.get(text.lower()) if text.isalpha() else int(text)
    except ValueError:
        value = None
    if value is None or value < 0:
        raise wrong_parameter(config, name, "a whole number")
    return value


def default_max_batch_size(arguments: Sequence[str]) -> int:
    """What the server's command line gives as `--backend-config=[onnxruntime,]default-max-batch-size=N`, or Triton's 4.

    Triton does not hand --backend-config on to Python-based backends, so it is read where it stands.
    """
    found: dict[str, int] = {}
    for flag, following in pairwise([*arguments, ""]):
        name, equals, value = flag.partition("=")
        if name != "--backend-config":
            continue
        setting = value if equals else following
        backend, comma, rest = setting.partition(",")
        key, _, number = (rest if comma else setting).partition("=")
        if key == "default-max-batch-size" and number.isdigit():
            found[backend if comma else ""] = int(number)
    return found.get("onnxruntime", found.get("", DEFAULT_MAX_BATCH_SIZE))


def server_arguments() -> list[str]:
    """The command line of the process that started this one, which is the server; nothing where it cannot be read."""
    try:
        return Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []
