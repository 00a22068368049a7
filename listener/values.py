"""JSON values as the arrays that a model takes. Pure.

Rules: docs/reference/contract.md, "Tensors". `as_batch` reads all instances of a request at once; where that does not
work, `from_instance` reads one, and its sentence is about that one.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from listener import bf16
from listener.call import Json
from listener.tensors import (
    NUMPY,
    ModelSpec,
    TensorError,
    TensorSpec,
    as_array,
    cast,
    dims,
    fits,
    is_bare,
    itemsize,
    listed,
    packer,
)

#: What JSON has no numbers for.
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
#: A whole number in JSON's own form, as text; its first digits say whether it is outside every datatype.
_WHOLE, _DIGITS = re.compile("-?(?:0|[1-9][0-9]*)"), 100
_LISTS = {list, tuple}
_JSON = {*_LISTS, dict, str, bytes, bool, int, float, type(None)}


def from_instance(instance: Json, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """One instance as arrays without batch dimension: an object by input name, or the bare value of a single input.

    Raises:
        TensorError: an input is unknown, missing, or its value does not fit.
    """
    given = _by_name(instance, spec)
    return {tensor.name: from_json(given[tensor.name], tensor) for tensor in spec.inputs if tensor.name in given}


def as_batch(instances: Sequence[Json], spec: ModelSpec) -> dict[str, NDArray[Any]] | None:
    """All instances as one batch; None where they are none, or something is wrong with one."""
    try:
        first = _by_name(instances[0], spec)
        if not first or not _alike(instances):
            return None
        if isinstance(instances[0], dict):
            columns = {name: [instance[name] for instance in instances] for name in first}
        else:
            columns = {name: list(instances) for name in first}
        return {tensor.name: _read(columns[tensor.name], tensor, 1) for tensor in spec.inputs if tensor.name in first}
    except TensorError:
        return None


def from_json(value: Json, spec: TensorSpec) -> NDArray[Any]:
    """A value as an array of `spec.shape`.

    Args:
        value: a (nested) list; a bare value, where every size is 1 or -1; or for a tensor of numbers, `bytes`: its
            little-endian contents, or in a list the contents of a part.
        spec: of the tensor. BF16 comes as FP32.

    Raises:
        TensorError: ragged, of another type or shape, or out of the datatype's range.
    """
    if isinstance(value, (np.ndarray, np.generic)):  # a handler's
        array = cast(as_array(value), spec)
        return _shaped(array, array.shape, spec, 0)
    return _read(value, spec, 0)


def _by_name(instance: Json, spec: ModelSpec) -> dict[str, Json]:
    if isinstance(instance, dict):
        if unknown := sorted(instance.keys() - {tensor.name for tensor in spec.inputs}):
            takes = listed(spec.inputs) or "no inputs"
            raise TensorError(f"unknown input {unknown[0]!r}; model {spec.name!r} takes {takes}")
        given = instance
    elif len(spec.inputs) == 1:
        given = {spec.inputs[0].name: instance}
    else:
        takes = f"the inputs {listed(spec.inputs)}" if spec.inputs else "no inputs, so an instance is {}"
        raise TensorError(f"is not an object; model {spec.name!r} takes {takes}")
    for tensor in spec.inputs:
        if tensor.name not in given and not tensor.optional:
            raise TensorError(f"input {tensor.name!r} is missing")
    if not given and spec.max_batch_size:  # nothing would tell how many rows there are
        raise TensorError(f"gives no input; model {spec.name!r} takes {listed(spec.inputs)}, and needs at least one")
    return given


def _alike(instances: Sequence[Json]) -> bool:
    """Whether they all give their inputs in the same way, and the same ones."""
    if not isinstance(instances[0], dict):
        return dict not in set(map(type, instances))
    names = instances[0].keys()
    return set(map(type, instances)) == {dict} and all(instance.keys() == names for instance in instances)


def _read(value: Json, spec: TensorSpec, lead: int) -> NDArray[Any]:
    """A value with so many dimensions, 0 or 1, before those of the tensor."""
    dtype = NUMPY.get(spec.datatype)
    if dtype is None:
        raise TensorError(f"input {spec.name!r} is {spec.datatype}, which is not known here")
    shape, items = _unfolded(value, spec, lead)
    if dtype.kind != "O" and set(map(type, items)) == {bytes}:
        return _raw(items, shape, spec, lead)
    array = _READERS[dtype.kind](_Items(items, shape, spec))
    return _shaped(array, shape, spec, lead)


def _unfolded(value: Json, spec: TensorSpec, lead: int) -> tuple[tuple[int, ...], list[Json]]:
    """The lengths of the nested lists, and what is in the innermost."""
    shape: list[int] = []
    level = [value]
    while level:
        kinds = set(map(type, level))
        if not kinds <= _JSON:  # a handler's
            level = [item.tolist() if isinstance(item, (np.ndarray, np.generic)) else item for item in level]
            kinds = set(map(type, level))
        if kinds.isdisjoint(_LISTS):
            break
        if not kinds <= _LISTS or len(lengths := set(map(len, level))) != 1:
            raise TensorError(f"input {spec.name!r} is ragged: its lists differ in length or depth")
        if len(shape) == len(spec.shape) + lead:
            raise TensorError(f"input {spec.name!r} is nested deeper than the model takes, {dims(spec.shape)}")
        shape.append(lengths.pop())
        level = list(chain.from_iterable(level))
    return tuple(shape), level


def _shaped(array: NDArray[Any], shape: tuple[int, ...], spec: TensorSpec, lead: int) -> NDArray[Any]:
    """The items of lists of such lengths in the shape of the tensor, if they have it."""
    if len(shape) == lead and is_bare(spec.shape):
        shape += (1,) * len(spec.shape)
    elif not array.size:  # an empty list says nothing of what is in its items
        shape += tuple(max(size, 0) for size in spec.shape[len(shape) - lead :])
    if not fits(shape[lead:], spec.shape):
        given = dims(shape[lead:])
        raise TensorError(f"input {spec.name!r} has shape {given}; the model takes {dims(spec.shape)}")
    return array.reshape(shape)


# Raw contents


def _raw(items: list[bytes], shape: tuple[int, ...], spec: TensorSpec, lead: int) -> NDArray[Any]:
    """Of lists of such lengths, each item in the place of the dimensions that are left."""
    sizes = set(map(len, items))
    if len(sizes) != 1:
        raise TensorError(f"input {spec.name!r} is ragged: its {{'b64': ...}} differ in length")
    wanted = spec.shape[max(len(shape) - lead, 0) :]
    shape += _inferred(sizes.pop(), wanted, spec)
    raw = items[0] if len(items) == 1 else b"".join(items)
    dtype = NUMPY[spec.datatype]
    if spec.datatype == "BF16":
        array: NDArray[Any] = bf16.unpacked(np.frombuffer(raw, "<u2"))
    elif spec.datatype == "BOOL":
        array = np.frombuffer(raw, np.uint8) != 0
    else:
        array = np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype)
    return _shaped(array, shape, spec, lead)


def _inferred(nbytes: int, wanted: Sequence[int], spec: TensorSpec) -> tuple[int, ...]:
    """The sizes that a number of bytes makes of dimensions of which one may be free."""
    free = [place for place, size in enumerate(wanted) if size == -1]
    unit = math.prod(size for size in wanted if size != -1) * itemsize(spec.datatype)
    whole = nbytes % unit == 0 if free and unit else nbytes == unit
    if len(free) > 1 or (free and not unit) or not whole:
        raise TensorError(f"input {spec.name!r}: {nbytes} bytes do not make {spec.datatype} {dims(wanted)}")
    return tuple(nbytes // unit if size == -1 else size for size in wanted)


# Items of lists


class _Items(NamedTuple):
    """What stood in the innermost lists.

    Attributes:
        items: in their order.
        shape: lengths of the lists.
        spec: of the tensor that they shall become.
    """

    items: list[Json]
    shape: tuple[int, ...]
    spec: TensorSpec

    def kinds(self) -> set[type]:
        return set(map(type, self.items))

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


def _booleans(given: _Items) -> NDArray[Any]:
    if not given.kinds() <= {bool}:
        given.expect("booleans", lambda item: type(item) is bool)
    return np.array(given.items, np.bool_)


def _byte_strings(given: _Items) -> NDArray[Any]:
    if not given.kinds() <= {str, bytes}:
        given.expect("strings or {'b64': ...}", lambda item: type(item) in (str, bytes))
    array = np.empty(len(given.items), np.object_)
    array[:] = [item.encode() if type(item) is str else item for item in given.items]
    return array


def _floats(given: _Items) -> NDArray[Any]:
    """JSON's numbers are doubles here; each is rounded to the datatype once."""
    items, kinds = given.items, given.kinds()
    if not kinds <= {int, float}:
        given.expect("numbers", lambda item: type(item) in (int, float) or (type(item) is str and item in _WORDS))
        items = [_WORDS[item] if type(item) is str else item for item in items]
    try:
        doubles = np.array(items, np.float64)
    except OverflowError:  # a whole number beyond the doubles
        doubles = np.array([_double(item) for item in items])
    with np.errstate(over="ignore"):
        made = bf16.rounded(doubles) if given.spec.datatype == "BF16" else doubles.astype(NUMPY[given.spec.datatype])
    if np.isinf(made).any():
        for index in np.flatnonzero(np.isinf(made)):
            if type(given.items[index]) is not str:
                raise given.outside(int(index))
    return made


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _wholes(given: _Items) -> NDArray[Any]:
    """3.0 is 3, because JSON parsers on the way may print every number as a double; 3.5 is a mistake."""
    items, kinds = given.items, given.kinds()
    if not kinds <= {int, float}:
        given.expect("whole numbers", lambda item: type(item) in (int, float) or _is_decimal(item))
    if kinds != {int}:
        given.expect("whole numbers", lambda item: type(item) is not float or item.is_integer())
        items = [int(item[:_DIGITS] if type(item) is str else item) for item in items]
    packed = bytearray(len(items) * itemsize(given.spec.datatype))
    try:
        packer(len(items), given.spec.datatype).pack_into(packed, 0, *items)
    except (struct.error, OverflowError):
        limits = np.iinfo(NUMPY[given.spec.datatype])
        raise given.outside(next(i for i, n in enumerate(items) if not limits.min <= n <= limits.max)) from None
    return np.frombuffer(packed, NUMPY[given.spec.datatype])


def _is_decimal(item: Json) -> bool:
    return type(item) is str and _WHOLE.fullmatch(item) is not None


_READERS: Mapping[str, Callable[[_Items], NDArray[Any]]] = {
    "b": _booleans,
    "O": _byte_strings,
    "f": _floats,
    "i": _wholes,
    "u": _wholes,
}
