"""Any tensor of any datatype: instances -> Triton -> predictions gives what went in."""

from __future__ import annotations

import base64
import math
from typing import Any, Literal

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.contract.models import DATATYPES, EVERYTHING
from tests.contract.target import Target

_FLOATS: dict[str, Literal[16, 32, 64]] = {"FP16": 16, "FP32": 32, "FP64": 64, "BF16": 32}
pytestmark = pytest.mark.triton

#: Beyond it rounding to BF16 would overflow.
_LARGEST_BF16 = 3.3e38

Shapes = st.tuples(*[st.integers(1, 3)] * 3)


def integers(datatype: str) -> st.SearchStrategy[Any]:
    """In each of the ways in which a client may say them."""
    limits = np.iinfo(datatype.lower())
    whole = st.integers(int(limits.min), int(limits.max))
    small = whole.filter(lambda number: abs(number) <= 2**53)
    return whole | whole.map(str) | small.map(float)


def floats(datatype: str) -> st.SearchStrategy[Any]:
    width = _FLOATS[datatype]
    finite: st.SearchStrategy[Any] = st.floats(width=width, allow_nan=False, allow_infinity=False)
    if datatype == "BF16":
        finite = finite.filter(lambda number: abs(number) < _LARGEST_BF16)
    return finite | st.sampled_from(["NaN", "Infinity", "-Infinity"])


def scalars(datatype: str) -> st.SearchStrategy[Any]:
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        text = st.text(st.characters(codec="utf-8"), max_size=5)
        return text | st.binary(max_size=5).map(lambda raw: {"b64": base64.b64encode(raw).decode()})
    return floats(datatype) if datatype in _FLOATS else integers(datatype)


@st.composite
def tensors(draw: st.DrawFn, datatype: str) -> Any:
    """Nested lists of a random shape, three deep."""
    planes, rows, columns = draw(Shapes)
    return [[[draw(scalars(datatype)) for _ in range(columns)] for _ in range(rows)] for _ in range(planes)]


instances = st.fixed_dictionaries({datatype: tensors(datatype) for datatype in DATATYPES})


def flat(value: Any) -> list[Any]:
    return [item for inner in value for item in flat(inner)] if isinstance(value, list) else [value]


def shape(value: Any) -> tuple[int, ...]:
    return (len(value), *shape(value[0])) if isinstance(value, list) else ()


def expected(datatype: str, item: Any) -> Any:
    """What a prediction says of an element."""
    if datatype == "BOOL":
        return item
    if datatype == "BYTES":
        return _text(base64.b64decode(item["b64"])) if isinstance(item, dict) else item
    if datatype not in _FLOATS:
        return int(item)
    number = float(item)
    return number if math.isfinite(number) else None


def _text(raw: bytes) -> Any:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(raw).decode()}


def rounded(datatype: str, values: list[Any]) -> NDArray[Any]:
    """Finite numbers in the datatype's precision, as doubles."""
    array = np.array(values, np.float64)
    if datatype != "BF16":
        return array.astype({"FP16": "f2", "FP32": "f4", "FP64": "f8"}[datatype]).astype(np.float64)
    bits = array.astype(np.float32).view(np.uint32).astype(np.uint64)
    even = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return even.astype(np.uint32).view(np.float32).astype(np.float64)


def check(datatype: str, given: Any, got: Any) -> None:
    wanted, found = [expected(datatype, item) for item in flat(given)], flat(got)
    assert shape(got) == shape(given)
    if datatype not in _FLOATS:
        assert found == wanted
        return
    assert [item is None for item in found] == [item is None for item in wanted]
    finite = [(w, f) for w, f in zip(wanted, found, strict=True) if w is not None]
    ours, theirs = rounded(datatype, [w for w, _ in finite]), np.array([f for _, f in finite], np.float64)
    # a prediction is the shortest text that is read back as the same number of its datatype
    np.testing.assert_array_equal(rounded(datatype, theirs.tolist()), ours)


@hypothesis.given(rows=st.lists(instances, min_size=1, max_size=1))
@hypothesis.settings(max_examples=200, suppress_health_check=list(hypothesis.HealthCheck))
def test_tensors_of_every_datatype_and_shape_come_back(target: Target, rows: list[dict[str, Any]]) -> None:
    (prediction,) = target.predictions(rows, EVERYTHING)
    assert len(prediction) == len(DATATYPES)
    for datatype in DATATYPES:
        check(datatype, rows[0][datatype], prediction[f"{datatype}_OUT"])


@pytest.mark.parametrize("datatype", DATATYPES)
def test_batches_of_one_datatype_come_back(target: Target, datatype: str) -> None:
    @hypothesis.given(
        rows=st.integers(1, 4).flatmap(
            lambda size: st.lists(st.lists(scalars(datatype), min_size=size, max_size=size), min_size=1, max_size=9)
        )
    )
    @hypothesis.settings(max_examples=30, suppress_health_check=list(hypothesis.HealthCheck))
    def come_back(rows: list[list[Any]]) -> None:
        check(datatype, rows, target.predictions(rows, f"identity_{datatype.lower()}"))

    come_back()


@pytest.mark.parametrize("datatype", [datatype for datatype in DATATYPES if datatype != "BYTES"])
def test_the_bytes_of_a_tensor_are_the_tensor(target: Target, datatype: str) -> None:
    """Little-endian, one after the other."""
    values = [True, False, True] if datatype == "BOOL" else [1, 0, 100]
    if datatype == "BF16":
        raw = np.array(values, "<f4").view("<u2")[1::2].tobytes()
    else:
        raw = np.array(values, np.dtype(datatype.lower().replace("fp", "float")).newbyteorder("<")).tobytes()
    given = {"b64": base64.b64encode(raw).decode()}
    (prediction,) = target.predictions([given], f"identity_{datatype.lower()}")
    assert prediction == values
