"""What the process that fetches says to its parent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from listener.artifacts import answer
from listener.errors import ConfigError


@pytest.mark.parametrize("path", ["/srv/a", "/srv/ä b", os.fsdecode(b"/srv/\xff\n")], ids=ascii)
def test_a_folder(path: str) -> None:
    assert answer.read(answer.folder(Path(path)), "gs://b", 0) == Path(path)


def test_the_sentences_of_a_refusal() -> None:
    with pytest.raises(ConfigError) as caught:
        answer.read(answer.refusal(ConfigError("one: no", "two: \udcff")), "gs://b", 78)
    assert caught.value.mistakes == ("one: no", "two: ?")


def test_no_answer() -> None:
    with pytest.raises(ConfigError) as caught:
        answer.read(b"", "gs://b/m", 137)
    assert caught.value.mistakes == ("gs://b/m: the process that fetches it ended with status 137; its log says why",)
