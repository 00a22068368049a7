"""`python -m benchmarks.fetching.overlap`: what Triton could gain by loading models while the others still arrive.

Files are written at a steady rate, as a network would bring them, by next to no CPU time: all at once and Triton after
the last one, as `listener up` does it; and model by model, with a Triton that runs from the start and is told to load
each that has come. The difference is the most that any such loading could gain. Prints only.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.fetching.__main__ import WORK
from listener import probe
from listener.settings import Settings
from listener.triton import installation
from listener.triton.server import TritonServer

_MIB = 1 << 20
_COLUMNS = 4096


def write_model(folder: Path, size: int) -> None:
    """A model of some `size` bytes: a product with a matrix, of as many rows as it takes."""
    rows = size // _COLUMNS // 4
    weights = np.random.default_rng(0).random((rows, _COLUMNS), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "W"], ["Y"])],
        "overlap",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", rows])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["N", _COLUMNS])],
        [numpy_helper.from_array(weights, "W")],
    )
    (folder / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "1/model.onnx")
    (folder / "config.pbtxt").write_text(
        'backend: "onnxruntime"\nmax_batch_size: 8\ninstance_group [ { count: 1 kind: KIND_CPU } ]\n'
    )


def arrive(source: Path, target: Path, rate: float) -> None:
    """Copies a model, `rate` bytes a second."""
    (target / "1").mkdir(parents=True)
    shutil.copy(source / "config.pbtxt", target)
    begin, done = time.monotonic(), 0
    with (source / "1/model.onnx").open("rb") as given, (target / "1/model.onnx").open("wb") as taken:
        while block := given.read(_MIB):
            taken.write(block)
            done += len(block)
            time.sleep(max(0.0, begin + done / rate - time.monotonic()))


def load(url: str, model: str) -> None:
    """https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md"""
    urllib.request.urlopen(
        urllib.request.Request(f"{url}/v2/repository/models/{model}/load", b"{}"), timeout=600
    ).close()


async def afterwards(models: Sequence[Path], target: Path, rate: float) -> float:
    """Seconds until Triton is ready that is started after the last byte."""
    begin = time.monotonic()
    with ThreadPoolExecutor(len(models)) as pool:
        each = rate / len(models)
        await asyncio.gather(*(_in(pool, arrive, model, target / model.name, each) for model in models))
    async with _triton(target) as server:
        await probe.until_ok(f"{server.url}/v2/health/ready")
        return time.monotonic() - begin


async def meanwhile(models: Sequence[Path], target: Path, rate: float) -> float:
    """Seconds until a Triton that runs from the start has loaded all models, each as soon as it is there."""
    begin = time.monotonic()
    with ThreadPoolExecutor(len(models) + 1) as pool:
        async with _triton(target, "--model-control-mode=explicit") as server:
            loading = []
            up = asyncio.create_task(probe.until_ok(f"{server.url}/v2/health/live"))
            for model in models:
                await _in(pool, arrive, model, target / model.name, rate)
                await up
                loading.append(asyncio.create_task(_in(pool, load, server.url, model.name)))
            await asyncio.gather(*loading)
            return time.monotonic() - begin


async def _in(pool: ThreadPoolExecutor, function: Callable[..., None], *arguments: object) -> None:
    await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)


@contextlib.asynccontextmanager
async def _triton(repository: Path, *arguments: str) -> AsyncIterator[TritonServer]:
    server = TritonServer(installation.find(""), repository, Settings(triton_args=arguments), free_ports=True)
    child = await server.start()
    try:
        yield server
    finally:
        await child.stop(server.exit_patience)
        server.close()


@click.command()
@click.option("--models", default=4, show_default=True)
@click.option("--size", default=256, show_default=True, help="MiB of each.")
@click.option("--rate", "rates", type=float, multiple=True, default=(100, 250, 500), show_default=True, help="MB/s.")
@click.option("--rounds", default=3, show_default=True)
def main(models: int, size: int, rates: tuple[float, ...], rounds: int) -> None:
    """Compares both in turns."""
    shutil.rmtree(WORK, ignore_errors=True)
    names = [WORK / "source" / f"m{number}" for number in range(models)]
    for name in names:
        write_model(name, size * _MIB)
    print(f"{models} models of {size} MiB, seconds until ready: after the last byte / model by model / ratio")
    for rate in rates:
        for _ in range(rounds):
            taken = []
            for way in (afterwards, meanwhile):
                target = WORK / "repository"
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
                taken.append(asyncio.run(way(names, target, rate * 1e6)))
            print(f"{rate:5g} MB/s  {taken[0]:6.2f}  {taken[1]:6.2f}  {taken[0] / taken[1]:5.2f}", flush=True)
    shutil.rmtree(WORK)


if __name__ == "__main__":
    main()
