"""`application/x-npy`: an array in numpy's own file format, in and out. Pure; it needs numpy, so import it late.

Nothing is unpickled, and no array is made before its size has been held against the body's.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listener.call import Reply
from listener.errors import BadRequest


def read(body: bytes) -> list[NDArray[Any]]:
    """The instances of a body: what the leading dimension of its array counts.

    Returns:
        Read-only views of the body.

    Raises:
        BadRequest: no such file, not a whole one, of objects, or without a leading dimension of at least 1.
    """
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
        head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = head(file)  # type: ignore[no-untyped-call]
    except Exception as error:  # its head is read as Python's literals, of which much can be wrong
        raise BadRequest(f"the body is no npy file: {error}") from None
    if dtype.hasobject or dtype.kind not in "biufSU":
        raise BadRequest(f"an npy file of {dtype} is not handled; send numbers, booleans or text")
    if not shape or not shape[0]:
        raise BadRequest("the npy file has no leading dimension of at least 1, which is that of the instances")
    if len(body) - file.tell() != math.prod(shape) * dtype.itemsize:
        raise BadRequest(f"the npy file says {dtype} {list(shape)} and has {len(body) - file.tell()} bytes for it")
    flat = np.frombuffer(body, dtype, offset=file.tell())
    array = flat.reshape(shape, order="F" if fortran else "C")
    return [array[index, ...] for index in range(shape[0])]


def write(reply: Reply) -> bytes:
    """The predictions as one array.

    Raises:
        BadRequest: they are not numbers or booleans of one shape.
    """
    try:
        array = np.asarray(reply.predictions)
    except ValueError:
        array = np.empty(0, np.object_)
    if array.dtype.kind not in "biuf":
        raise BadRequest("these predictions are not one array of numbers; ask for application/json")
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
