"""What is packed with gzip becomes a file's bytes, in small pieces however much is packed; and whether it was whole.

It may be several packed pieces one after the other, as `cat` and parallel packers make them, with zeros behind. What
only says that it is packed stays as it is, as it does where Cloud Storage unpacks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_MAGIC = b"\x1f\x8b"
#: Bytes of a piece at most.
_PIECE = 256 * 1024
#: zlib's way to say: with gzip's header and trailer.
_GZIP = 31


class Unpacker:
    """Of one object.

    Attributes:
        is_spoilt: some of it could not be unpacked, or its end is missing.
    """

    def __init__(self) -> None:
        self.is_spoilt = False
        self._head = b""
        self._is_packed: bool | None = None
        self._unpacking: zlib._Decompress | None = None

    def pieces(self, block: bytes) -> Iterator[bytes]:
        """What becomes of the next bytes."""
        if self._is_packed is None:
            block = self._head + block
            if len(block) < len(_MAGIC):
                self._head = block
                return
            self._head, self._is_packed = b"", block.startswith(_MAGIC)
        if not self._is_packed:
            yield block
            return
        try:
            yield from self._unpacked(block)
        except zlib.error:
            self.is_spoilt = True

    def end(self) -> bytes:
        """To be called after the last bytes; gives what was held back."""
        self.is_spoilt |= self._unpacking is not None
        return self._head

    def _unpacked(self, block: bytes) -> Iterator[bytes]:
        while block and not self.is_spoilt:
            if self._unpacking is None:
                block = block.lstrip(b"\0")
                if not block:
                    return
                self._unpacking = zlib.decompressobj(_GZIP)
            yield self._unpacking.decompress(block, _PIECE)
            if self._unpacking.eof:
                block, self._unpacking = self._unpacking.unused_data, None
            else:
                block = self._unpacking.unconsumed_tail
