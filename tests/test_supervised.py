"""supervisord that starts its programs before it waits."""

from __future__ import annotations

import pytest
from supervisor.options import ServerOptions
from supervisor.process import ProcessGroupBase
from supervisor.supervisord import Supervisor

from listener.supervised import Prompt


class Config:
    """Of a group, as far as it is asked for here."""

    process_configs = ()

    def __init__(self, priority: int) -> None:
        self.priority = priority


def test_programs_are_started_in_order_before_anything_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[object]()

    class Group(ProcessGroupBase):  # type: ignore[misc]
        def transition(self) -> None:
            done.append(self.config.priority)

    monkeypatch.setattr(Supervisor, "runforever", lambda _: done.append("the loop"))
    prompt = Prompt(ServerOptions())
    prompt.process_groups = {str(priority): Group(Config(priority)) for priority in (20, 1, 10)}
    prompt.runforever()
    assert done == [1, 10, 20, "the loop"]
