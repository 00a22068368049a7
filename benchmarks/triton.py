"""`python -m benchmarks.triton`: one Triton in the foreground, with its Vertex frontend or with plain HTTP.

It is started as the listener starts its own (the same flags, backends and libraries), so that only the frontend
differs. No guard looks after it: nothing but Triton may cost anything here. The Vertex frontend listens on every
address; Triton has no flag for that.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
import signal
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.processes import free_port
from listener import observe
from listener.errors import ConfigError
from listener.settings import Settings
from listener.triton import installation
from listener.triton.server import TritonServer

PREDICT, HEALTH = "/predict", "/health"


@click.command()
@click.option("--repository", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--port", type=int, required=True)
@click.option("--vertex", metavar="MODEL", help="Serve this model on the Vertex frontend instead of plain HTTP.")
def main(repository: Path, port: int, vertex: str | None) -> None:
    """Runs one Triton until SIGTERM."""
    observe.set_up("info", "info", "human")
    found = installation.find("")
    with tempfile.TemporaryDirectory() as folder:
        if vertex:
            found = dataclasses.replace(found, binary=on_the_platform(Path(folder), found.binary, port))
        url = f"http://127.0.0.1:{free_port() if vertex else port}"
        configured = Settings(triton_url=url, triton_args=arguments(port, vertex))
        try:
            sys.exit(asyncio.run(run(TritonServer(found, repository, configured, free_ports=False))))
        except ConfigError as error:
            sys.exit(str(error))


def arguments(port: int, vertex: str | None) -> tuple[str, ...]:
    """What differs from the listener's own Triton; of a flag given twice Triton takes the last."""
    metrics = f"--metrics-port={free_port()}"
    if not vertex:
        return (metrics,)
    frontend = ("--allow-http=false", "--allow-vertex-ai=true", f"--vertex-ai-port={port}")
    return (metrics, *frontend, f"--vertex-ai-default-model={vertex}")


def on_the_platform(folder: Path, binary: Path, port: int) -> Path:
    """A program that starts Triton with the platform's variables, which `TritonServer` takes out of the environment."""
    variables = {
        "AIP_MODE": "PREDICTION",
        "AIP_HTTP_PORT": str(port),
        "AIP_PREDICT_ROUTE": PREDICT,
        "AIP_HEALTH_ROUTE": HEALTH,
    }
    command = ["env", *(f"{name}={value}" for name, value in variables.items()), str(binary)]
    program = folder / "tritonserver"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    program.chmod(0o700)
    return program


async def run(server: TritonServer) -> int:
    """Returns Triton's exit status."""
    try:
        child = await server.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, child.send, signal.SIGTERM)
        return await child.wait()
    finally:
        server.close()


if __name__ == "__main__":
    main()
