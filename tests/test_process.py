"""Child processes: real small ones. And how long to wait before one is started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener import process
from listener.process import Backoff, Child

ENV = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a process outlives its parent there")


class Lines(list[str]):
    """Receives a child's lines; `until` waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def add(self, line: str) -> None:
        self.append(line)
        self._more.set()

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(5):
            while len(self) < count:
                self._more.clear()
                await self._more.wait()
        return self


async def shell(script: str, lines: Lines | None = None) -> Child:
    return await process.start("sh", ["sh", "-c", script], ENV, on_line=lines.add if lines is not None else None)


async def output(script: str) -> list[str]:
    lines = Lines()
    assert await (await shell(script, lines)).wait() == 0
    return lines


@contextlib.contextmanager
def watched(pid: int) -> Iterator[int]:
    """A descriptor that becomes readable when the process ends, whoever its parent is."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def ended(descriptor: int, within: float) -> bool:
    return bool(select.select([descriptor], [], [], within)[0])


# The start


async def test_a_child_runs_in_a_session_of_its_own() -> None:
    lines = Lines()
    script = "import os; print(os.getpid(), os.getsid(0), os.getpgid(0))"
    child = await process.start("python", [sys.executable, "-S", "-c", script], ENV, on_line=lines.add)
    assert await child.wait() == 0
    assert lines == [f"{child.pid} {child.pid} {child.pid}"]
    assert os.getsid(0) != child.pid


async def test_a_child_gets_the_environment_that_was_given_and_no_other() -> None:
    lines = Lines()
    child = await process.start("env", ["/usr/bin/env"], {"ONE": "1", "TWO": "ä"}, on_line=lines.add)
    assert await child.wait() == 0
    assert sorted(lines) == ["ONE=1", "TWO=ä"]


async def test_a_child_has_nothing_to_read() -> None:
    assert await output("cat; echo done") == ["done"]


async def test_a_child_inherits_the_descriptors_that_were_named(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as file:
        number = file.fileno()
        child = await process.start("sh", ["sh", "-c", f"echo hello > /dev/fd/{number}"], ENV, pass_fds=[number])
        assert await child.wait() == 0
        assert (tmp_path / "file").read_text() == "hello\n"


async def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(OSError, match="no-such-program"):
        await process.start("x", ["/no-such-program"], ENV)


# Its output


async def test_stdout_and_stderr_come_line_by_line() -> None:
    assert await output(r"printf 'one\ntwo\r\n\nthree' ; echo >&2 ; echo four >&2") == [
        "one",
        "two",
        "",
        "three",
        "four",
    ]


async def test_a_last_line_without_a_break_is_a_line() -> None:
    assert await output("printf 'one\ntwo'") == ["one", "two"]


async def test_bytes_that_are_no_utf8_are_replaced() -> None:
    assert await output(r"printf 'a\377b\n\303\244\n'") == ["a\ufffdb", "ä"]


@pytest.mark.parametrize("length", [65535, 65536, 65537, 65538, 300_000])
async def test_a_long_line_comes_in_pieces_and_the_next_one_whole(length: int) -> None:
    lines = await output(f"head -c {length} /dev/zero | tr '\\0' x; echo; echo after")
    assert "".join(lines[:-1]) == "x" * length
    assert "" not in lines
    assert lines[-1] == "after"


async def test_without_a_reader_the_output_goes_to_ours(capfd: pytest.CaptureFixture[str]) -> None:
    assert await (await shell("echo out; echo err >&2")).wait() == 0
    assert capfd.readouterr() == ("out\n", "err\n")


# Its end


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("exit 78", process.EX_CONFIG), ("kill -TERM $$", 143), ("kill -KILL $$", 137)],
    ids=["0", "3", "EX_CONFIG", "SIGTERM", "SIGKILL"],
)
async def test_the_exit_status_is_a_shells(script: str, status: int) -> None:
    child = await shell(script)
    assert [await child.wait(), await child.wait()] == [status, status]


async def test_a_child_runs_until_it_has_ended() -> None:
    child = await shell("exit 0")
    before = child.running
    await child.wait()
    assert [before, child.running] == [True, False]


async def test_a_signal_to_an_ended_child_is_no_error() -> None:
    child = await shell("exit 0")
    await child.wait()
    child.send(signal.SIGTERM)
    assert await child.stop(1) == 0


async def test_a_signal_reaches_the_child() -> None:
    lines = Lines()
    child = await shell("trap 'exit 9' USR1; echo ready; while :; do sleep 0.01; done", lines)
    await lines.until(1)
    child.send(signal.SIGUSR1)
    assert await child.wait() == 9


async def test_a_stop_lets_the_child_end_by_itself() -> None:
    lines = Lines()
    child = await shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done", lines)
    await lines.until(1)
    assert await child.stop(5) == 7
    assert lines == ["ready", "bye"]


@pytest.mark.parametrize("patience", [0, 0.05], ids=["none", "a little"])
async def test_a_stop_kills_when_patience_is_over(patience: float) -> None:
    lines = Lines()
    child = await shell("trap '' TERM; echo ready; while :; do sleep 0.01; done", lines)
    await lines.until(1)
    assert await child.stop(patience) == 137
    assert not child.running


@LINUX
async def test_what_a_child_left_behind_goes_with_it() -> None:
    # the grandchild holds the pipe, so that the output would not end by itself
    lines = Lines()
    child = await shell("sleep 60 & echo $!; sleep 0.05; exit 4", lines)
    await lines.until(1)
    with watched(int(lines[0])) as grandchild:
        async with asyncio.timeout(1.5):  # below the two seconds that `wait` would give the output
            assert await child.wait() == 4
        assert ended(grandchild, 1)


@LINUX
async def test_a_kill_reaches_grandchildren_that_refuse_to_end() -> None:
    lines = Lines()
    child = await shell("trap '' TERM; sh -c 'echo $$; while :; do sleep 0.01; done' & wait; wait", lines)
    await lines.until(1)
    with watched(int(lines[0])) as grandchild:
        assert await child.stop(0.05) == 137
        assert ended(grandchild, 1)


@LINUX
async def test_a_grandchild_that_fled_cannot_hold_up_the_end() -> None:
    lines = Lines()
    child = await shell("setsid sh -c 'echo $$; exec sleep 60' & wait", lines)
    await lines.until(1)
    fled = int(lines[0])
    try:
        async with asyncio.timeout(4):
            assert await child.stop(0) in (137, 143)
    finally:
        with watched(fled) as descriptor:
            os.kill(fled, signal.SIGKILL)
            assert ended(descriptor, 1)
        for _ in range(5):  # the loop finds the pipe closed, and closes its end
            await asyncio.sleep(0)


PARENT = """
import asyncio, sys
from listener import process

async def main():
    child = await process.start("c", ["sleep", "60"], {"PATH": sys.argv[1]})
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


@LINUX
def test_a_child_dies_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, ENV["PATH"]], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        with watched(int(parent.stdout.readline())) as child:
            assert not ended(child, 0)
            parent.kill()
            assert ended(child, 1)


# Starting again

# ready -> delay
HISTORIES: dict[str, tuple[Backoff, list[tuple[bool, float | None]]]] = {
    "fails five times": (Backoff(), [(False, 1), (False, 2), (False, 4), (False, 8), (False, None)]),
    "always ready before it ends": (Backoff(), [(True, 1)] * 20),
    "ready after four failures": (
        Backoff(),
        [(False, 1), (False, 2), (False, 4), (False, 8), (True, 1), (False, 2), (False, 4)],
    ),
    "the longest delay": (Backoff(longest=3, limit=99), [(False, 1), (False, 2), (False, 3), (False, 3)]),
    "one try only": (Backoff(limit=1), [(False, None)]),
}


@pytest.mark.parametrize(("backoff", "history"), HISTORIES.values(), ids=HISTORIES.keys())
def test_backoff(backoff: Backoff, history: list[tuple[bool, float | None]]) -> None:
    assert [backoff.after_exit(ready) for ready, _ in history] == [delay for _, delay in history]
