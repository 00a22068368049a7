"""`listener new`: a small service that works, around a model of one's own or to be changed into one's own.

Without a model it names colours, by one of a few numbers that is made here. The files are the templates beside this
one, with the words between two @ filled in.
"""

from __future__ import annotations

import keyword
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from listener.errors import ConfigError

if TYPE_CHECKING:
    from listener.tools.own_model import OwnModel

#: Each file of a service, and its template.
_FILES = {
    "listener.yaml": "listener.yaml.in",
    "handlers/@name@.py": "handler.py.in",
    "triton_repo/@name@/config.pbtxt": "config.pbtxt.in",
    "tests/conftest.py": "conftest.py.in",
    "tests/test_@name@.py": "test.py.in",
    "README.md": "README.md.in",
    ".gitignore": "gitignore.in",
    "pytest.ini": "pytest.ini.in",  # or else pytest takes the settings of whatever the folder lies in
}
#: Those that differ where the model is given.
_OWN = {
    "handlers/@name@.py": "model_handler.py.in",
    "triton_repo/@name@/config.pbtxt": "model_config.pbtxt.in",
    "tests/test_@name@.py": "model_test.py.in",
    "README.md": "model_README.md.in",
}
_MODEL = "triton_repo/@name@/1/model.onnx"
#: Red, green and blue of the colours that the handler's template names, in its order.
_COLOURS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1))
#: How sure the model is: what a squared distance of 1 takes from a colour's logit.
_SHARPNESS = 8.0


@dataclass(frozen=True, slots=True)
class Made:
    """A service that was made.

    Attributes:
        folder: where.
        does: what, behind "a service that".
        ask: a shell command that prints an instance.
    """

    folder: Path
    does: str
    ask: str

    def next_steps(self) -> str:
        """What to type now."""
        return f"""\
{self.folder} is a service that {self.does}. Next:

  cd {shlex.quote(str(self.folder))}
  listener check
  python -m pytest
  listener up --host 127.0.0.1

and in another terminal:

  {self.ask} | listener predict -"""


def make(name: str, within: Path, model: Path | None = None) -> Made:
    """Makes a service in the folder `within/name`.

    Args:
        name: of the folder, the route, the model and the handler's module.
        within: the folder around it.
        model: an ONNX file, which is copied; None = one that names colours.

    Raises:
        ConfigError: the name will not do, the folder has something in it or cannot be written, onnx is missing, or no
            service can be made around the model. Nothing that is there is overwritten.
    """
    _check_name(name)
    folder = within / name
    own = None if model is None else _own(model)
    marks = {"ask": """echo '"#ff8800"'"""} if own is None else {**own.marks(), "ask": own.ask()}
    templates = _FILES if own is None else {**_FILES, **_OWN}
    files = {path: _template(file, name, marks).encode() for path, file in templates.items()}
    if own is None:
        files[_MODEL] = _model()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder}: is not empty; choose another name, or another place with --in")
        for path, content in files.items():
            file = folder / _filled(path, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if own is not None:
            _copy(own, folder / _filled(_MODEL, name))
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from None
    does = "names colours, to be changed into yours" if own is None else f"predicts by {own.file.name}"
    return Made(folder, does, marks["ask"])


def _own(file: Path) -> OwnModel:
    try:
        from listener.tools import own_model
    except ImportError as error:
        raise ConfigError(f"the model is read with onnx: pip install 'triton-listener[tools]' ({error})") from None
    return own_model.read(file)


def _copy(own: OwnModel, to: Path) -> None:
    """The model, with the files of weights that it names."""
    to.parent.mkdir(parents=True)
    shutil.copyfile(own.file, to)
    for name in own.weights:
        (to.parent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(own.file.parent / name, to.parent / name)


def _check_name(name: str) -> None:
    """It becomes the name of a folder, a module, a route and a model."""
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(f"{name!r} cannot be the name of a module; take letters, digits and _, such as 'my_model'")
    if name in sys.stdlib_module_names or name in ("listener", "test"):
        raise ConfigError(f"{name!r} is the name of a module of Python's or of the listener; choose another one")


def _template(file: str, name: str, marks: Mapping[str, str]) -> str:
    return _filled((resources.files("listener.tools") / "template" / file).read_text(encoding="utf-8"), name, marks)


def _filled(text: str, name: str, marks: Mapping[str, str] | None = None) -> str:
    """In one pass, so that a tensor's name may hold an @."""
    title = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    known = {"name": name, "Class": f"{title}Handler", **(marks or {})}
    return re.sub("@(" + "|".join(known) + ")@", lambda mark: known[mark[1]], text)


def _model() -> bytes:
    """An ONNX file: `rgb` FP32 [N, 3], each 0 to 1, to `probabilities` FP32 [N, 8], the nearer the greater.

    The logit of a colour c is minus the squared distance of x to it, without x * x, which is the same for all of them.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError as error:
        raise ConfigError(f"the model is made with onnx: pip install 'triton-listener[tools]' ({error})") from None
    weights = [2 * _SHARPNESS * colour[channel] for channel in range(3) for colour in _COLOURS]
    bias = [-_SHARPNESS * sum(colour) for colour in _COLOURS]
    count = len(_COLOURS)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["rgb", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info("rgb", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", count])],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, [3, count], weights),
            helper.make_tensor("bias", TensorProto.FLOAT, [count], bias),
        ],
    )
    # versions that onnxruntime has known for long
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(made.SerializeToString())
