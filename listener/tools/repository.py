"""The layout of a model repository, as Triton reads it: folders, versions, and the file that each backend wants.

What Triton does with the unexpected was tried out: it takes every folder for a model, hidden ones too, and does not
start when one of them cannot be loaded; files beside the folders do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from listener.errors import ConfigError
from listener.tools import model_config
from listener.tools.model_config import ENSEMBLE, PLATFORMS, ModelConfig

#: The file of a version, by backend; of other backends nothing is known.
FILES = {
    "onnxruntime": "model.onnx",
    "python": "model.py",
    "pytorch": "model.pt",
    "tensorrt": "model.plan",
    "tensorflow": "model.graphdef",
    "openvino": "model.xml",
}
_FILES_BY_PLATFORM = {"tensorflow_savedmodel": "model.savedmodel", "torch_aoti": "model.pt2"}

#: By file, in the order in which Triton looks when nothing else names a backend.
_GUESSES = {
    "model.savedmodel": "tensorflow",
    "model.graphdef": "tensorflow",
    "model.plan": "tensorrt",
    "model.onnx": "onnxruntime",
    "model.xml": "openvino",
    "model.pt": "pytorch",
    "model.pt2": "pytorch",
    "model.py": "python",
}
_MAX_VERSION = 2**63 - 1
_LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One model of the repository.

    Attributes:
        path: its folder.
        config: what its config.pbtxt says.
        backend: which one serves it; "" = an ensemble, or one that cannot be told.
        files: the model files of the versions that Triton loads, oldest first; without those that cannot be read, and
            none where their name is not known.
        present: the versions that are there, oldest first.
        loaded: those of them that Triton loads.
    """

    path: Path
    config: ModelConfig
    backend: str
    files: tuple[Path, ...]
    present: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()


def names(repository: Path) -> list[str]:
    """The folders in the repository, each of which is a model to Triton.

    Raises:
        ConfigError: the repository cannot be read.
    """
    return [path.name for path in _folders(repository)]


def read(path: Path, mistakes: list[str]) -> ModelFolder | None:
    """Reads and checks the layout of one model's folder.

    Args:
        path: the folder.
        mistakes: gets a sentence per mistake.

    Returns:
        The model; None where too little is right to say more about it.

    Raises:
        ConfigError: something cannot be read or parsed.
    """
    inside = _folders(path)
    if not (path / model_config.FILE).exists() and not any(re.match(r"[-+]?\d", folder.name) for folder in inside):
        mistakes.append(
            f"{path}: Triton takes every folder of a model repository for a model, and this one has neither a version "
            f"folder, such as 1, nor {model_config.FILE}; move it elsewhere or complete it"
        )
        return None
    before = len(mistakes)
    present = dict(_versions(inside, mistakes))
    config = model_config.read(path / model_config.FILE)
    backend = _backend(config, inside)
    if not present and len(mistakes) == before:
        wanted = "an empty folder named 1" if config.message.platform == ENSEMBLE else "a folder such as 1"
        mistakes.append(f"{path}: has no version folder; Triton wants {wanted}")
    mistakes += _unknown_versions(config, present)
    loaded = _loaded(config, present)
    files = _files(config, backend, loaded)
    if present:
        mistakes += _check_need_for_config(config, backend, inside, files)
    wrong = {file: sentence for file in files if (sentence := _check_file(file, backend))}
    mistakes += wrong.values()
    return ModelFolder(
        path,
        config,
        backend,
        tuple(file for file in files if file not in wrong),
        tuple(map(str, sorted(present))),
        tuple(version.name for version in loaded),
    )


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _versions(inside: list[Path], mistakes: list[str]) -> Iterator[tuple[int, Path]]:
    """The version folders. Triton passes over names that are no numbers, but takes '2_old' for version 2."""
    names = {folder.name for folder in inside}
    for folder in inside:
        number = re.match(r"[-+]?[0-9]+", folder.name)
        if number is None:
            continue
        version = int(number[0])
        if re.match("0[0-9]", folder.name):
            mistakes.append(f"{folder}: Triton passes over version folders with a leading zero; name it {version}")
        elif version > _MAX_VERSION:
            mistakes.append(f"{folder}: Triton crashes at a version above {_MAX_VERSION}")
        elif folder.name == str(version) and version >= 0:
            yield version, folder
        elif str(version) not in names or version < 0:
            mistakes.append(
                f"{folder}: Triton takes this for version {version} and fails; its name has to be a number only"
            )


def _unknown_versions(config: ModelConfig, present: dict[int, Path]) -> Iterator[str]:
    for index, version in enumerate(config.message.version_policy.specific.versions):
        if version not in present:
            where = ("version_policy", 0, "specific", 0, "versions", index)
            found = ", ".join(map(str, sorted(present))) or "none"
            yield config.mistake(
                "version_policy.specific.versions", f"{version} has no folder; there are {found}", *where
            )


def _loaded(config: ModelConfig, present: dict[int, Path]) -> list[Path]:
    """The version folders that Triton loads, oldest first."""
    policy = config.message.version_policy
    ordered = sorted(present)
    if policy.HasField("specific"):
        ordered = [version for version in ordered if version in policy.specific.versions]
    elif not policy.HasField("all"):
        ordered = ordered[-max(policy.latest.num_versions, 1) :]
    return [present[version] for version in ordered]


def _backend(config: ModelConfig, inside: list[Path]) -> str:
    """As Triton finds it: by the configuration, else by what lies in the first of the folders."""
    message = config.message
    if message.backend or message.platform:
        return str(message.backend or PLATFORMS.get(message.platform, ""))
    if message.default_model_filename:
        return _GUESSES.get(message.default_model_filename, "")
    guess = _guessed(inside[0]) if inside else None
    return _GUESSES[guess.name] if guess else ""


def _guessed(version: Path) -> Path | None:
    return next((version / name for name in _GUESSES if (version / name).exists()), None)


def _files(config: ModelConfig, backend: str, versions: list[Path]) -> list[Path]:
    message = config.message
    default = _FILES_BY_PLATFORM.get(message.platform) or FILES.get(backend)
    if default is None or message.cc_model_filenames:
        return []
    if message.default_model_filename:
        default = str(message.default_model_filename)
    elif backend in ("tensorflow", "pytorch") and not message.platform:
        return [_guessed(version) or version / default for version in versions]
    return [version / default for version in versions]


def _check_need_for_config(config: ModelConfig, backend: str, inside: list[Path], files: list[Path]) -> Iterator[str]:
    """Whether Triton can do with what the configuration says, or without one."""
    message, place = config.message, config.path
    if not (backend or message.platform or message.default_model_filename or "." in place.parent.name):
        looked = f"; {inside[0]} holds none of {', '.join(_GUESSES)}" if inside else ""
        yield f"{place}: backend: is missing, and Triton cannot tell it from the files{looked}"
    elif not place.exists() and backend == "pytorch":
        yield f"{place}: does not exist; a model of the backend {backend} cannot do without"
    elif not place.exists() and backend == "python":
        sources = [file.read_bytes() for file in files if file.is_file()]
        if sources and not any(b"auto_complete_config" in source for source in sources):
            yield f"{place}: does not exist; a Python model can do without only if it has auto_complete_config"


def _check_file(file: Path, backend: str) -> str | None:
    try:
        if not file.exists():
            return f"{file}: does not exist; the backend {backend} loads the model from there"
        if file.is_dir():
            return None
        with file.open("rb") as stream:
            start = stream.read(len(_LFS))
    except OSError as error:
        return f"{file}: cannot be read: {error.strerror}"
    if start == _LFS:
        return f"{file}: is only a pointer of Git LFS; git lfs pull fetches the model itself"
    return None if start else f"{file}: is empty"
