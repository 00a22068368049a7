"""What stands in the innermost lists of a JSON value, as an array: numbers, booleans, texts. Pure."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from listener import bf16
from listener.call import Json
from listener.tensors import LETTERS, NUMPY, TensorError, TensorSpec, packer

_NUMBERS = {int, float}
#: What JSON has no numbers for.
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
#: A whole number in JSON's own form, as text; its first digits say whether it is outside every datatype.
_WHOLE, _DIGITS = re.compile("-?(?:0|[1-9][0-9]*)"), 100


class Elements(NamedTuple):
    """What stood in the innermost lists of a value.

    Attributes:
        items: in their order.
        kinds: their types.
        shape: the lengths of the lists; a bare value stood in none.
        spec: of the tensor that they shall become.
    """

    items: list[Json]
    kinds: set[type]
    shape: tuple[int, ...]
    spec: TensorSpec

    def expect(self, taken: str, fine: Callable[[Json], bool]) -> None:
        """Refuses the first item that is not fine.

        Raises:
            TensorError: there is one.
        """
        for index, item in enumerate(self.items):
            if not fine(item):
                what = f"input {self.spec.name!r} is {self.spec.datatype} and takes {taken}"
                raise TensorError(f"{what}, not {_shown(item)}{self._place(index)}")

    def outside(self, index: int) -> TensorError:
        """An item is a number, but none of the datatype's."""
        number = f"{_shown(self.items[index])}{self._place(index)}"
        return TensorError(f"input {self.spec.name!r} has a number outside {self.spec.datatype}: {number}")

    def _place(self, index: int) -> str:
        path = np.unravel_index(index, self.shape) if self.shape else ()
        return f" at {''.join(f'[{step}]' for step in path)}" if path else ""


def _shown(item: Json) -> str:
    """An item in a sentence."""
    match item:
        case None:
            return "null"
        case bool():
            return str(item).lower()
        case bytes():
            return "{'b64': ...}"
        case dict():
            return "an object"
    text = repr(item)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _booleans(given: Elements) -> NDArray[Any]:
    if not given.kinds <= {bool}:
        given.expect("booleans", lambda item: type(item) is bool)
    return np.array(given.items, np.bool_)


def _byte_strings(given: Elements) -> NDArray[Any]:
    if not given.kinds <= {str, bytes}:
        given.expect("strings or {'b64': ...}", lambda item: type(item) in (str, bytes))
    array = np.empty(len(given.items), np.object_)
    array[:] = [item.encode() if type(item) is str else item for item in given.items]
    return array


def _floats(given: Elements) -> NDArray[Any]:
    """JSON's numbers are doubles here; each is rounded to the datatype once."""
    if given.kinds <= _NUMBERS and given.spec.datatype in LETTERS:
        with suppress(struct.error, OverflowError):
            return _packed(given.items, given.spec)
    given.expect("numbers", lambda item: type(item) in _NUMBERS or (type(item) is str and item in _WORDS))
    doubles = np.array([_WORDS[item] if type(item) is str else _double(item) for item in given.items])
    with np.errstate(over="ignore"):
        made = bf16.rounded(doubles) if given.spec.datatype == "BF16" else doubles.astype(NUMPY[given.spec.datatype])
    for index in np.flatnonzero(np.isinf(made)):
        if type(given.items[index]) is not str:
            raise given.outside(int(index))
    return made


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _wholes(given: Elements) -> NDArray[Any]:
    """3.0 is 3, because JSON parsers on the way may print every number as a double; 3.5 is a mistake."""
    items = given.items
    if given.kinds != {int}:
        given.expect("whole numbers", _is_whole)
        items = [int(item[:_DIGITS] if type(item) is str else item) for item in items]
    try:
        return _packed(items, given.spec)
    except (struct.error, OverflowError):
        limits = np.iinfo(NUMPY[given.spec.datatype])
        raise given.outside(next(i for i, n in enumerate(items) if not limits.min <= n <= limits.max)) from None


def _is_whole(item: Json) -> bool:
    match item:
        case bool():
            return False
        case float():
            return item.is_integer()
        case str():
            return _WHOLE.fullmatch(item) is not None
    return isinstance(item, int)


def _packed(numbers: list[Json], spec: TensorSpec) -> NDArray[Any]:
    """An array of numbers that has its own memory.

    Raises:
        struct.error, OverflowError: one is outside the datatype.
    """
    made = np.empty(len(numbers), NUMPY[spec.datatype])
    packer(len(numbers), spec.datatype).pack_into(made.data, 0, *numbers)
    return made


#: By the kind of numpy's dtype.
READERS: Mapping[str, Callable[[Elements], NDArray[Any]]] = {
    "b": _booleans,
    "O": _byte_strings,
    "f": _floats,
    "i": _wholes,
    "u": _wholes,
}
