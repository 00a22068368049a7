"""Makes a repository of TorchScript models, in a Python that has torch: python3 torch_models.py FOLDER.

tests/image/test_torch.py runs it in the image and asks what it made. It needs nothing but torch.
"""

import sys
from pathlib import Path
from typing import Dict, List, Tuple  # noqa: UP035 - what torch 1.13 knows

import torch
from torch import Tensor, nn

X = '{ name: "%s" data_type: TYPE_FP32 dims: [ 2 ] }'
BATCHES = "max_batch_size: 4\ndynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 1000000 }\n"
ONE_STRING = "data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] }"


class Minus(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b


class Two(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        return a - b, (a * 10).to(torch.int64)


class ByKey(nn.Module):
    def forward(self, given: Dict[str, Tensor]) -> Tensor:  # noqa: UP006
        return given["left"] - given["right"]


class Counting(nn.Module):
    """Each row of the first result holds how many rows were computed together; x indexes a table for the second."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.arange(4, dtype=torch.float32)[:, None] * 10)

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        return torch.full_like(x, x.size(0)), self.table[x[:, 0]]


class Words(nn.Module):
    """Each text twice, and how many bytes it has."""

    def forward(self, texts: List[str]) -> Tuple[List[str], Tensor]:  # noqa: UP006
        sizes = torch.zeros(len(texts), 1, dtype=torch.int64)
        twice: List[str] = []  # noqa: UP006
        for place, text in enumerate(texts):
            sizes[place] = len(text)
            twice.append(text + text)
        return twice, sizes


class EveryType(nn.Module):
    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # noqa: UP006
        whole = (x > 0, x.to(torch.uint8), x.to(torch.int8), x.to(torch.int16), x.to(torch.int32))
        return (
            whole[0],
            whole[1],
            whole[2],
            whole[3],
            whole[4],
            x.to(torch.float16),
            x.to(torch.float32),
            x.to(torch.float64),
        )


def parameter(name: str, text: str) -> str:
    return f'parameters {{ key: "{name}" value {{ string_value: "{text}" }} }}\n'


def declared(inputs: str, outputs: str) -> str:
    """Names of inputs and outputs that are FP32[2]; an output that is something else as `name data_type: ...`."""
    made = []
    for kind, names in (("input", inputs), ("output", outputs)):
        entries = [X % name if " " not in name else "{ name: " + name + " }" for name in names.split(", ")]
        made.append(f"{kind} [ {', '.join(entries)} ]\n")
    return "".join(made)


def store(folder: Path, name: str, module: nn.Module, config: str, file: str = "model.pt") -> None:
    """One model of one instance, as Triton would start two."""
    path = folder / name / "1" / file
    path.parent.mkdir(parents=True)
    torch.jit.script(module).save(str(path))
    backend = "" if "platform:" in config else 'backend: "pytorch"\n'
    path.parents[1].joinpath("config.pbtxt").write_text(
        f"{backend}{config}\ninstance_group [ {{ kind: KIND_CPU count: 1 }} ]\n"
    )


def good(folder: Path) -> None:
    """What must load."""
    store(folder, "by_name", Minus().eval(), declared("b, a", "y") + parameter("INFERENCE_MODE", "false"))
    two = declared("p__1, q__0", '"y__1" data_type: TYPE_INT64 dims: [ 2 ], "z__0" data_type: TYPE_FP32 dims: [ 2 ]')
    store(folder, "by_index", Two().eval(), 'platform: "pytorch_libtorch"\n' + two)
    switches = ("ENABLE_TENSOR_FUSER", "ENABLE_JIT_PROFILING", "ENABLE_JIT_EXECUTOR", "DISABLE_OPTIMIZED_EXECUTION")
    every = "".join(parameter(name, "true") for name in (*switches, "ENABLE_WEIGHT_SHARING", "ENABLE_CACHE_CLEANING"))
    threads = parameter("INTRA_OP_THREAD_COUNT", "1") + parameter("INTER_OP_THREAD_COUNT", "1")
    store(folder, "by_order", Minus(), declared("p, q", "y") + every + threads)
    traced = declared("left, right", "y") + 'default_model_filename: "net.pt"\n'
    store(folder, "by_key", ByKey().eval(), traced, "net.pt")
    counted = '"rows" data_type: TYPE_INT64 dims: [ 1 ], "z" data_type: TYPE_FP32 dims: [ 1 ]'
    numbers = 'input [ { name: "x" data_type: TYPE_INT64 dims: [ 1 ] } ]\n' + declared("x", counted).split("\n")[1]
    store(folder, "counting", Counting().eval(), BATCHES + numbers)
    texts = f'input [ {{ name: "texts" {ONE_STRING} }} ]\n'
    twice = f'output [ {{ name: "twice" {ONE_STRING} }}, {{ name: "size" data_type: TYPE_INT64 dims: [ 1 ] }} ]\n'
    store(folder, "words", Words().eval(), BATCHES + texts + twice)
    types = ("BOOL", "UINT8", "INT8", "INT16", "INT32", "FP16", "FP32", "FP64")
    all_types = ", ".join(f'"{name}__{place}" data_type: TYPE_{name} dims: [ 2 ]' for place, name in enumerate(types))
    store(folder, "every_type", EveryType().eval(), declared("x", all_types))
    store(folder, "other_type", Minus().eval(), declared("a, b", '"y" data_type: TYPE_FP64 dims: [ 2 ]'))
    path = folder / "traced" / "1" / "model.pt"
    path.parent.mkdir(parents=True)
    torch.jit.trace(nn.Linear(2, 1).eval(), torch.zeros(1, 2)).save(str(path))
    traced = 'input [ { name: "input" data_type: TYPE_FP32 dims: [ -1 ] } ]\n'
    config = (
        f'backend: "pytorch"\nmax_batch_size: 4\n{traced}output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }} ]\n'
    )
    (folder / "traced" / "config.pbtxt").write_text(config)


def bad(folder: Path) -> None:
    """What must not."""
    store(folder, "no_boolean", Minus().eval(), declared("a, b", "y") + parameter("INFERENCE_MODE", "perhaps"))
    store(folder, "state_dict", Minus().eval(), declared("a, b", "y"))
    torch.save(nn.Linear(2, 2).state_dict(), folder / "state_dict" / "1" / "model.pt")
    store(folder, "no_file", Minus().eval(), declared("a, b", "y") + 'default_model_filename: "other.pt"\n')
    (folder / "bare" / "1").mkdir(parents=True)
    torch.jit.script(Two().eval()).save(str(folder / "bare" / "1" / "model.pt"))


if __name__ == "__main__":
    good(Path(sys.argv[1]))
    bad(Path(sys.argv[1]))
