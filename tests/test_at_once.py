from __future__ import annotations

import asyncio
from functools import partial

import pytest

from listener.at_once import at_once
from listener.errors import TritonFailed


async def test_a_cancellation_wins_over_a_failure_of_the_same_moment() -> None:
    calls = [asyncio.get_running_loop().create_future() for _ in range(2)]

    async def wait(call: asyncio.Future[None]) -> None:
        await call

    whole = asyncio.create_task(at_once([partial(wait, call) for call in calls]))
    await asyncio.sleep(0.01)
    calls[0].set_exception(TritonFailed("the model failed"))
    await asyncio.sleep(0)  # the first call has failed, which is not known further up yet
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
    assert calls[1].cancelled()
