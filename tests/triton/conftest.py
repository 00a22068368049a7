"""A pool of shared memory in a folder of the test's own, with a Triton that agrees to everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from listener.triton.shm import SharedMemory


class Control:
    """A Triton that takes every region."""

    async def get_server_metadata(self) -> dict[str, Any]:
        return {"extensions": ["system_shared_memory"]}

    async def get_system_shared_memory_status(self) -> list[dict[str, Any]]:
        return []

    async def register_system_shared_memory(self, name: str, key: str, byte_size: int) -> None:
        pass


@pytest.fixture
async def memory(tmp_path: Path) -> Any:
    made = SharedMemory(16 << 20, shm=tmp_path)
    assert await made.register(Control())
    yield made
    made.close()
