"""State machines of hypothesis whose rules happen on an event loop of their own."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine


class OnALoop(RuleBasedStateMachine):
    """Call `open_loop` first; each rule ends with some turns of the loop.

    Attributes:
        TURNS: after which everything that can happen has.
        loop: that one.
        complaints: what its exception handler was told.
    """

    TURNS: ClassVar[int] = 20

    def open_loop(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.complaints: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))

    def turn(self) -> None:
        async def turns() -> None:
            for _ in range(self.TURNS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
