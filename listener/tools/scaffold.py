"""`listener new`: a small service that works, to be changed into one's own.

It names colours. The files are the templates beside this one, with `@name@` and `@Class@` filled in, and a model of a
few numbers that is made here.
"""

from __future__ import annotations

import keyword
import re
import shlex
import sys
from importlib import resources
from pathlib import Path

from listener.errors import ConfigError

#: Each file of a service, and its template.
_FILES = {
    "listener.yaml": "listener.yaml.in",
    "handlers/@name@.py": "handler.py.in",
    "triton_repo/@name@/config.pbtxt": "config.pbtxt.in",
    "tests/conftest.py": "conftest.py.in",
    "tests/test_@name@.py": "test.py.in",
    "README.md": "README.md.in",
    ".gitignore": "gitignore.in",
}
_MODEL = "triton_repo/@name@/1/model.onnx"
#: Red, green and blue of the colours that the handler's template names, in its order.
_COLOURS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1))
#: How sure the model is: what a squared distance of 1 takes from a colour's logit.
_SHARPNESS = 8.0


def make(name: str, within: Path) -> Path:
    """Makes a service in the folder `within/name`, and that folder.

    Raises:
        ConfigError: the name will not do, the folder has something in it or cannot be written, or onnx is missing.
            Nothing that is there is overwritten.
    """
    _check_name(name)
    folder = within / name
    files = {path: _template(file, name).encode() for path, file in _FILES.items()} | {_MODEL: _model()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder}: is not empty; choose another name, or another place with --in")
        for path, content in files.items():
            file = folder / _filled(path, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from None
    return folder


def next_steps(folder: Path) -> str:
    """What to type now."""
    return f"""\
{folder} is a service that names colours, to be changed into yours. Next:

  cd {shlex.quote(str(folder))}
  listener check
  python -m pytest
  listener up --host 127.0.0.1

and in another terminal:

  echo '"#ff8800"' | listener predict -"""


def _check_name(name: str) -> None:
    """It becomes the name of a folder, a module, a route and a model."""
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(f"{name!r} cannot be the name of a module; take letters, digits and _, such as 'my_model'")
    if name in sys.stdlib_module_names or name in ("listener", "test"):
        raise ConfigError(f"{name!r} is the name of a module of Python's or of the listener; choose another one")


def _template(file: str, name: str) -> str:
    return _filled((resources.files("listener.tools") / "template" / file).read_text(encoding="utf-8"), name)


def _filled(text: str, name: str) -> str:
    title = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    return text.replace("@name@", name).replace("@Class@", f"{title}Handler")


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
