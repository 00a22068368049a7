"""`application/x-npy`: an array in numpy's own file format, in and out. Pure; it needs numpy, so import it late.

Nothing is unpickled, and no array is made before its size has been held against the body's.
"""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from listener.call import Reply, Rows
from listener.errors import BadRequest

#: By the format's version. The third differs from the second in the names of fields alone, which are not taken.
_READ_HEAD = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,
}
#: Numbers, booleans and text.
_KINDS = "biufSU"


class _Head(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    size: int  # its own, in bytes


def read(body: bytes) -> Rows:
    """The instances of a body: what the leading dimension of its array counts.

    Returns:
        The rows of a read-only view of the body.

    Raises:
        BadRequest: no such file, not a whole one, of objects, or without a leading dimension of at least 1.
    """
    shape, fortran, dtype, start = _head(body)
    if dtype.hasobject or dtype.kind not in _KINDS or not dtype.itemsize:
        raise BadRequest(f"an npy file of {dtype} is not handled; send numbers, booleans or text")
    if not shape or not all(type(size) is int and size >= 0 for size in shape):
        raise BadRequest("the npy file has no leading dimension of at least 1, which is that of the instances")
    if 0 in shape:
        raise BadRequest(f"the npy file says {list(shape)} and so has no elements")
    if len(body) - start != math.prod(shape) * dtype.itemsize:
        raise BadRequest(f"the npy file says {dtype} {list(shape)} and has {len(body) - start} bytes for it")
    if dtype.kind == "U":
        _check_text(np.frombuffer(body, f"{dtype.str[0]}u4", offset=start))
    try:
        array = np.frombuffer(body, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    except ValueError as error:  # more dimensions than numpy has
        raise BadRequest(f"the npy file's shape is none: {error}") from None
    return Rows(array)


def _head(body: bytes) -> _Head:
    file = io.BytesIO(body)
    try:
        read_head: Any = _READ_HEAD[np.lib.format.read_magic(file)]  # type: ignore[no-untyped-call]
        shape, fortran, dtype = read_head(file)
        return _Head(shape, fortran, dtype, file.tell())
    except KeyError as error:
        raise BadRequest(f"the body is no npy file of a version that is known: {error}") from None
    except Exception as error:  # its head is read as Python's literals, of which much can be wrong
        raise BadRequest(f"the body is no npy file: {error}") from None


def _check_text(codes: NDArray[np.uint32]) -> None:
    """numpy makes a string of whatever stands there, and ends in an error of the interpreter's own."""
    if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any():
        raise BadRequest("the npy file has text that is not Unicode")


def write(reply: Reply) -> bytes:
    """The predictions as one array; what is whole has no dimension for the instances.

    Raises:
        BadRequest: they are not numbers or booleans of one shape.
    """
    try:
        array = np.asarray(reply.predictions[0] if reply.whole else reply.predictions)
    except ValueError:
        array = np.empty(0, np.object_)
    if array.dtype.kind not in "biuf":
        raise BadRequest("these predictions are not one array of numbers; ask for application/json")
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
