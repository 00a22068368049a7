"""The command line without any server: help, settings, and one sentence for each thing that is wrong."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner

from listener import __version__, cli, workers
from listener.settings import Settings, env_name


def run(*arguments: str, folder: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIP_", "LISTENER_"))}
    command = [sys.executable, "-m", "listener", *arguments]
    return subprocess.run(command, cwd=folder, env={**clean, **env}, capture_output=True, text=True, timeout=30)


def test_version() -> None:
    assert run("--version").stdout == f"listener, version {__version__}\n"


@pytest.mark.parametrize("command", sorted(cli.cli.commands))
def test_help_reads_well(command: str) -> None:
    shown = CliRunner().invoke(cli.cli, [command, "--help"], terminal_width=110).output
    assert shown.startswith(f"Usage: cli {command}")
    assert len(shown.splitlines()) > 4
    assert max(len(line) for line in shown.splitlines()) <= 110
    for option in cli.cli.commands[command].params:
        assert option.param_type_name == "argument" or getattr(option, "help", None), option.name


def test_no_sentence_of_the_list_of_commands_is_cut() -> None:
    shown = CliRunner().invoke(cli.cli, ["--help"], terminal_width=80).output
    _, _, listed = shown.partition("Commands:\n")
    assert {line.split()[0] for line in listed.splitlines()} == set(cli.cli.commands)
    assert "..." not in listed


def test_every_setting_is_an_option_of_some_command() -> None:
    offered = {option.name for command in cli.cli.commands.values() for option in command.params}
    assert {field.name for field in dataclasses.fields(Settings)} <= offered


def test_an_option_names_its_variable() -> None:
    shown = CliRunner().invoke(cli.cli, ["up", "--help"], terminal_width=400).output
    for field in dataclasses.fields(Settings):
        if field.name not in ("triton_url", "triton_metrics_url"):
            assert f"[env: {env_name(field)};" in shown


@pytest.mark.parametrize(
    ("words", "value"), [((), True), (("--no-server-timing",), False), (("--server-timing",), True)]
)
def test_what_is_on_by_default_can_be_turned_off(words: tuple[str, ...], value: bool) -> None:
    with mock.patch.object(workers, "serve", return_value=0) as serve:
        CliRunner().invoke(cli.cli, ["serve", *words], env={"LISTENER_SERVER_TIMING": ""})
    assert serve.call_args is not None
    assert serve.call_args.args[0].server_timing is value


def test_settings_lists_all_of_them_with_their_value() -> None:
    shown = run("settings", LISTENER_TIMEOUT="7").stdout
    assert "LISTENER_TIMEOUT=7.0\n" in shown
    for field in dataclasses.fields(Settings):
        assert f"{env_name(field)}=" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["up", "--port", "http"], "listener: --port: 'http' is not a whole number\n"),
        (["up", "--service", "/nowhere"], "listener: /nowhere/listener.yaml: no such file; a service is a folder"),
        (["serve", "--service", "/nowhere"], "listener: /nowhere/listener.yaml: no such file; a service is a folder"),
        (["triton", "--service", "/nowhere"], "listener: /nowhere/listener.yaml: no such file; a service is a folder"),
        (["up", "--service", "/nowhere", "--reload"], "listener: /nowhere/listener.yaml: no such file; a service is a"),
        (
            ["up", "--reload", "--repository", "gs://bucket/m"],
            "listener: --reload: gs://bucket/m is fetched from Cloud",
        ),
        (["serve", "--reload", "--storage-uri", "gs://bucket/m"], "listener: --reload: gs://bucket/m is fetched from"),
        (["serve", "--triton-url", "127.0.0.1:8080"], "listener: LISTENER_TRITON_URL: port 8080 is that of AIP_HTTP"),
        (["triton", "--triton-url", "127.0.0.1:8080"], "listener: LISTENER_TRITON_URL: port 8080 is that of AIP_HTTP"),
        (["predict", "/nowhere/x.png"], "listener: /nowhere/x.png: cannot be read: No such file or directory\n"),
        (["predict", "--url", "http://127.0.0.1:1/x", "{json}"], "listener: http://127.0.0.1:1/x: no answer: "),
        (["predict", "--url", "http://127.0.0.1:1", "{json}"], "listener: http://127.0.0.1:1/predict: no answer: "),
        (["predict", "--url", "nonsense", "{json}"], "listener: nonsense: no answer: "),
        (["predict", "{text}"], "listener: the input is neither a picture nor JSON: "),
        (["predict", "{empty}"], "listener: the input is neither a picture nor JSON: "),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    files = {"json": "[1]", "text": "hello", "empty": ""}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    done = run(*(word.format(**{name: tmp_path / name for name in files}) for word in arguments))
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["asyncio", "click.core", "listener.settings", "listener.artifacts.choice"])
def test_ctrl_c_while_modules_are_imported_shows_no_trace(module: str) -> None:
    """At the moment at which Python looks for that one."""
    program = (
        "import os, runpy, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        name == {module!r} and os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "runpy.run_module('listener', run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "settings"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_health_of_nobody_is_1() -> None:
    done = run("health", "--port", "1")
    assert done.returncode == 1
    assert done.stdout.startswith("no answer from http://127.0.0.1:1/health: ")


def test_a_misspelt_variable_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "listener.yaml").write_text("routes: {a: {}}\nrepository: none\n")
    done = run("up", "--service", str(tmp_path), LISTENER_TIMEOT="5", LISTENER_PORT="tcp://10.0.0.1:80")
    assert "LISTENER_TIMEOT is not a setting and has no effect; did you mean LISTENER_TIMEOUT?" in done.stdout
    assert "LISTENER_PORT" not in done.stdout
    assert (
        done.stderr
        == f"listener: {tmp_path}/none: no such folder; 'repository' in listener.yaml names the model repository\n"
    )
