"""Shared memory with Triton: large tensors are written where the other side reads them; requests only name the places.

Each worker has one region in /dev/shm, registered with Triton once, from which *leases* are given out. A caller that
gets none sends or asks for bytes instead; nothing fails for want of shared memory. docs/adr/0009-hot-path.md has the
figures behind the decisions, which are:

* **Pages are reserved as they are needed** (pages.py). The region has its full length from the start, so it is
  registered once, but only 4 MiB of pages; more are reserved when a lease lies beyond. So a full /dev/shm is a lease
  that is not given, never a SIGBUS, and an idle worker holds 4 MiB. `trim` gives back what was not needed of late.
* **A lease that Triton may still use is parked.** An inference call that was given up runs on. Its lease is used again
  when its answer has come, when another Triton has registered the region, or after some time. For an input, which is
  only read, that is `parked_for` seconds. For an output it is `output_parked_for`, longer than any call can take, as
  Triton would write into another request's tensor. While parked outputs fill half of the pool, outputs get no more
  leases, so that the inputs keep their room.
* **The name stays in /dev/shm while the worker lives**, since a restarted Triton opens it again. `Claim` removes it,
  after a crash as well; the pages go with it though Triton has them mapped.
* **Nothing is ever unregistered.** Triton before 2.50 crashes if a call still reads the region
  (https://github.com/triton-inference-server/server/issues/3207). What stays behind is an entry in a table.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import mmap
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import aiohttp
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from listener.triton.freelist import FreeList
from listener.triton.pages import STEP, Pages, default_size
from listener.triton.regions import SHM

log = logging.getLogger("listener.triton")

#: Seconds. Longer than any platform lets a request take by default, so that no backend reads there any more.
_PARKED_FOR = 600.0
#: Seconds, where Triton writes. Longer than any platform lets a request take at all, which is an hour.
_OUTPUT_PARKED_FOR = 7200.0
_TIMEOUT = 2.0  # seconds for registering
#: In the metadata of a Triton that may take shared memory.
_EXTENSION = "system_shared_memory"
#: No answer, or none of Triton's.
_SILENT = (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError)


class Control(Protocol):
    """What is used of `tritonclient.http.aio.InferenceServerClient`."""

    async def get_server_metadata(self) -> Any: ...

    async def get_system_shared_memory_status(self) -> Any: ...

    async def register_system_shared_memory(self, name: str, key: str, byte_size: int) -> None: ...


class Lease:
    """Bytes of the region that are the caller's until the context ends.

    Calls to Triton that were given up may have them for longer, each by itself: the caller may be asking another model
    with the same bytes when the answer to the first one comes, and may be at it when Triton restarts. So they are back
    when the context has ended and no such call is left.

    Attributes:
        region, offset, nbytes: for the tensor's `shared_memory_*` parameters.
        view: writable, exactly `nbytes` long; not to be used after the context.
        for_output: Triton writes there.
        is_open: the context has not ended.
        calls: that were given up, and that Triton may go on with.
    """

    def __init__(self, pool: SharedMemory, offset: int, end: int, view: memoryview, for_output: bool) -> None:
        self.region, self.offset, self.nbytes, self.view = pool.region, offset, len(view), view
        self.for_output = for_output
        self.end = end  # of the whole pages that it has
        self.is_open, self.calls = True, set[object]()
        self._pool = pool

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(BufferError):  # an array of the caller's looks at it still; it must not write
            self.view.release()
        self._pool.close_lease(self)

    def park(self, call: object = None) -> None:
        """Keeps the bytes from others after the context, as Triton may still read or write them; until `release`.

        To be called when a call that names the lease has been sent and ends without an answer.

        Args:
            call: which one.
        """
        self._pool.park(self, call)

    def release(self, call: object = None) -> None:
        """That call has ended; without one, so has the context. What is back already stays so."""
        self._pool.release(self, call)


class SharedMemory:
    """The pool. Leases may be taken and returned in any thread.

    Args:
        size: the most that it takes, in bytes; None: `default_size()`. Below 4 MiB, without /dev/shm and where that is
            full, the pool is off: it gives no leases.
        shm: the folder of shared memory.
        parked_for: seconds after which a parked lease of an input is used again at the latest.
        output_parked_for: the same for outputs.
        clock: seconds.

    Attributes:
        region: its name, for Triton and in /dev/shm.
        size: bytes; 0 where the pool is off.
    """

    def __init__(
        self,
        size: int | None = None,
        *,
        shm: Path = SHM,
        parked_for: float = _PARKED_FOR,
        output_parked_for: float = _OUTPUT_PARKED_FOR,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parked_for, self._output_parked_for, self._clock = parked_for, output_parked_for, clock
        self._lock = threading.Lock()
        self._asking = asyncio.Lock()
        self._registered = self._warned = self._closed = False
        self._out: dict[Lease, float] = {}  # until when each is out at the longest
        self._peak = 0  # bytes from the region's start that were needed since the last trim
        self._pages: Pages | None = None
        wanted = default_size(shm) if size is None else size
        if wanted >= STEP:
            try:
                self._pages = Pages(wanted, shm)
            except OSError as error:
                log.warning("no shared memory with Triton, so tensors are sent as bytes: %s", error)
        self.region = self._pages.name if self._pages else ""
        self.size = self._pages.size if self._pages else 0
        self._free = FreeList(self.size, mmap.PAGESIZE)

    async def register(self, control: Control) -> bool:
        """Makes sure that this Triton knows the region; cheap if it does. To be called whenever Triton becomes ready.

        Returns:
            Whether leases are given from now on. A Triton that refuses is in the log, once until one agrees; one that
            does not answer, or does not offer it at all, is not.
        """
        if self.size == 0 or self._closed:
            return False
        async with self._asking:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    offered = _EXTENSION in (await control.get_server_metadata())["extensions"]
                    if offered:
                        await self._introduce(control)
                self._registered, self._warned = offered and not self._closed, False
            except InferenceServerException as error:
                self._registered = False
                self._warn_once(error.message())
            except _SILENT:
                self._registered = False
        return self._registered

    def suspend(self) -> None:
        """No leases until `register` succeeds: Triton went away, or answered that it does not know the region."""
        self._registered = False

    def lease(self, nbytes: int, for_output: bool = False) -> Lease | None:
        """Room for `nbytes`; None where there is none: the pool is full, off or not registered.

        Args:
            nbytes: at least 1.
            for_output: Triton will write there. None as well while such leases, parked, fill half of the pool.

        Raises:
            ValueError: `nbytes` is not positive.
        """
        if nbytes <= 0:
            raise ValueError(f"a lease of {nbytes} bytes")
        with self._lock:
            self._return_overdue()
            if not self._registered or self._pages is None or (for_output and self._is_half_parked()):
                return None
            if (found := self._free.take(nbytes)) is None:
                return None
            begin, end = found
            if not self._pages.reserve(end):
                self._free.give(begin, end)
                return None
            self._peak = max(self._peak, end)
            lease = Lease(self, begin, end, self._pages.view(begin, begin + nbytes), for_output)
            self._out[lease] = math.inf
            return lease

    @property
    def held(self) -> int:
        """Bytes that are out, for requests or parked."""
        return _bytes(list(self._out))

    @property
    def parked(self) -> int:
        """Bytes that calls which were given up still have."""
        return _bytes([lease for lease in list(self._out) if lease.calls])

    def holding(self, array: NDArray[Any]) -> Lease | None:
        """The lease at whose beginning an array lies."""
        if self._pages is None:
            return None
        offset = array.__array_interface__["data"][0] - self._pages.address
        with self._lock:
            return next((lease for lease in self._out if lease.offset == offset and array.nbytes <= lease.nbytes), None)

    def trim(self) -> None:
        """Gives the machine those pages back that no lease has needed since the last call; meant for every minute."""
        with self._lock:
            self._return_overdue()
            last = max((lease.end for lease in self._out), default=0)
            if self._pages is not None:
                self._pages.keep(max(last, self._peak))
            self._peak = last

    def close(self) -> None:
        """Removes the region; leases that are out stay usable until their context ends. Safe twice."""
        with self._lock:
            self._registered, self._closed = False, True
            if self._pages is not None:
                self._pages.remove()
            self._unmap()

    def is_parked(self, lease: Lease) -> bool:
        """Whether it was parked and has not come back since."""
        return bool(lease.calls)

    def park(self, lease: Lease, call: object) -> None:
        """`Lease.park`."""
        with self._lock:
            if lease in self._out:
                lease.calls.add(call)
                self._out[lease] = self._clock() + (self._output_parked_for if lease.for_output else self._parked_for)

    def release(self, lease: Lease, call: object) -> None:
        """`Lease.release`."""
        with self._lock:
            lease.calls.discard(call)
            lease.is_open = lease.is_open and call is not None
            self._settle(lease)
            self._unmap()

    def close_lease(self, lease: Lease) -> None:
        """The end of a lease's context."""
        with self._lock:
            lease.is_open = False
            self._settle(lease)
            self._unmap()

    async def _introduce(self, control: Control) -> None:
        if any(entry["name"] == self.region for entry in await control.get_system_shared_memory_status()):
            return
        await control.register_system_shared_memory(self.region, f"/{self.region}", self.size)
        with self._lock:  # a Triton that did not know the region has no call that uses it
            self._forget_calls([lease for lease in self._out if lease.calls])

    def _warn_once(self, reason: str) -> None:
        if not self._warned:
            log.warning(
                "Triton does not take shared memory, so tensors are sent as bytes: %s (it must run as the same user and"
                " see the same /dev/shm; Triton 2.68 and newer want --allow-client-shm=true)",
                reason,
            )
        self._warned = True

    def _is_half_parked(self) -> bool:
        """Whether outputs of calls that were given up hold half of the pool."""
        return 2 * _bytes([lease for lease in self._out if lease.for_output and lease.calls]) >= self.size

    def _return(self, lease: Lease) -> None:
        del self._out[lease]
        self._free.give(lease.offset, lease.end)

    def _return_overdue(self) -> None:
        now = self._clock()
        self._forget_calls([lease for lease, until in self._out.items() if until <= now])

    def _forget_calls(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            lease.calls.clear()
            self._settle(lease)

    def _settle(self, lease: Lease) -> None:
        """Takes it back if nobody has it any more."""
        if lease in self._out and not lease.calls:
            self._out[lease] = math.inf
            if not lease.is_open:
                self._return(lease)

    def _unmap(self) -> None:
        """At the end, once nobody writes any more; until then a write to a page given back could be a SIGBUS."""
        if self._closed and self._pages is not None and not any(lease.is_open for lease in self._out):
            self._pages.unmap()
            self._pages = None


def _bytes(leases: Iterable[Lease]) -> int:
    """Of whole pages."""
    return sum(lease.end - lease.offset for lease in leases)
