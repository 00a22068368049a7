"""`application/x-npy`: arrays in numpy's own file format, from people who may send anything."""

from __future__ import annotations

import contextlib
import io
import pickle
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from listener.call import Call, Reply, Rows
from listener.contract import npy
from listener.errors import BadRequest

DTYPES = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    arrays.byte_string_dtypes(min_len=1, max_len=4),
    arrays.unicode_string_dtypes(endianness="?", min_len=1, max_len=4),
)


def is_unicode(array: NDArray[Any]) -> bool:
    """Whether its text is; numpy keeps half of a surrogate pair as well, which is refused."""
    return array.dtype.kind != "U" or not any("\ud800" <= each <= "\udfff" for text in array.flat for each in text)


ARRAYS = arrays.arrays(DTYPES, arrays.array_shapes(max_dims=4, max_side=4)).filter(is_unicode)


def saved(array: Any, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy has something to say of versions beyond the first
        np.lib.format.write_array(file, np.asarray(array), version)  # type: ignore[no-untyped-call]
    return file.getvalue()


def made(shape: str, data: bytes = b"", descr: str = "'<f4'", order: str = "False", version: bytes = b"\1\0") -> bytes:
    """A file with a head as somebody may have written it."""
    head = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode("latin-1")
    return b"\x93NUMPY" + version + len(head).to_bytes(2 if version == b"\1\0" else 4, "little") + head + data


def refusal(body: bytes) -> str:
    with pytest.raises(BadRequest) as caught:
        npy.read(body)
    assert type(caught.value) is BadRequest
    return caught.value.message


# What is read


@given(ARRAYS, st.sampled_from([(1, 0), (2, 0), (3, 0)]))
def test_instances_are_what_the_leading_dimension_counts(array: NDArray[Any], version: tuple[int, int]) -> None:
    instances = npy.read(saved(array, version))
    assert len(instances) == len(array)
    for instance, expected in zip(instances, array, strict=True):
        assert instance.dtype == array.dtype
        np.testing.assert_array_equal(instance, expected)


def test_an_array_may_be_in_fortrans_order() -> None:
    array = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    np.testing.assert_array_equal(npy.read(saved(array)).array, array)


def test_instances_are_views_of_the_body_that_nobody_can_change() -> None:
    body = saved(np.zeros((3, 2), np.float32))
    instances = npy.read(body)
    assert isinstance(instances, Rows)
    assert not instances[0].flags.writeable
    assert np.shares_memory(instances[2], np.frombuffer(body, np.uint8))


def test_they_are_a_sequence_like_any_other() -> None:
    instances = npy.read(saved(np.arange(4)))
    assert [int(instance) for instance in instances] == [0, 1, 2, 3]
    assert (int(instances[-1]), instances[0].shape) == (3, ())
    assert [int(instance) for instance in instances[1:3]] == [1, 2]
    for index in (4, -5):
        with pytest.raises(IndexError):
            instances[index]
    plain = Call(instances).plain().instances
    assert isinstance(plain, list)
    assert len(plain) == 4


# What is not

OBJECTS = saved(np.array([{}, None]))  # with a pickle in it


DAMAGED: list[tuple[bytes, str]] = [
    (b"", "the body is no npy file: "),
    (b"\x93NUMPY", "the body is no npy file: "),
    (b"PK\3\4", "the body is no npy file: "),
    (pickle.dumps([1.0]), "the body is no npy file: "),
    (made("(1,)", version=b"\x09\x09"), "the body is no npy file of a version that is known: (9, 9)"),
    (made("(1,)", b"\0" * 4).replace(b"(1,)", b"f(1)"), "the body is no npy file: "),
    (made("(10**9,)"), "the body is no npy file: "),
    (made("(" * 4000), "the body is no npy file: "),
    (made("(1,)")[:40], "the body is no npy file: "),
    (OBJECTS, "an npy file of object is not handled; send numbers, booleans or text"),
    (saved(np.zeros(2, "c8")), "an npy file of complex64 is not handled; "),
    (saved(np.zeros(2, "M8[s]")), "an npy file of datetime64[s] is not handled; "),
    (saved(np.zeros(2, "i4, f4")), "an npy file of [('f0', '<i4'), ('f1', '<f4')] is not handled; "),
    (made("(2,)", b"\0" * 24, "'(3,)f4'"), "an npy file of ('<f4', (3,)) is not handled; "),
    (made("(5,)", b"", "'|S0'"), "an npy file of |S0 is not handled; "),
    (made("(5,)", b"", "'<U0'"), "an npy file of <U0 is not handled; "),
    (saved(np.float32(1)), "the npy file has no leading dimension of at least 1"),
    (made("(-1,)"), "the npy file has no leading dimension of at least 1"),
    (made("(-2, -2)", b"\0" * 16), "the npy file has no leading dimension of at least 1"),
    (made("(-1, -4)", b"\0" * 16), "the npy file has no leading dimension of at least 1"),
    (made("(True,)", b"\0" * 4), "the npy file has no leading dimension of at least 1"),
    (made("(0,)"), "the npy file says [0] and so has no elements"),
    (made("(3, 0)"), "the npy file says [3, 0] and so has no elements"),
    (made(f"({10**18}, 0)"), f"the npy file says [{10**18}, 0] and so has no elements"),
    (made("(2,)", b"\0" * 7), "the npy file says float32 [2] and has 7 bytes for it"),
    (made("(2,)", b"\0" * 9), "the npy file says float32 [2] and has 9 bytes for it"),
    (made(f"({2**62}, 4)"), f"the npy file says float32 [{2**62}, 4] and has 0 bytes for it"),
    (made(f"({2**64},)", b"\0" * 4), f"the npy file says float32 [{2**64}] and has 4 bytes for it"),
    (made(f"({'1, ' * 70})", b"\0" * 4), "the npy file's shape is none: "),
    (made("(1,)", b"\xff" * 4, "'<U1'"), "the npy file has text that is not Unicode"),
    (made("(1,)", b"\0\x11\0\0", "'>U1'"), "the npy file has text that is not Unicode"),
    (made("(2,)", b"a\0\0\0\0\xd8\0\0", "'<U1'"), "the npy file has text that is not Unicode"),
]


@pytest.mark.parametrize(("body", "sentence"), DAMAGED, ids=map(str, range(len(DAMAGED))))
def test_what_is_no_such_file_is_the_callers_fault(body: bytes, sentence: str) -> None:
    assert refusal(body).startswith(sentence)


def test_nothing_is_unpickled() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return pytest.fail, ("was unpickled",)

    assert refusal(saved(np.array([Bomb()], np.object_))).startswith("an npy file of object is not handled")


@given(ARRAYS, st.data())
def test_a_damaged_file_is_read_or_refused(array: NDArray[Any], data: st.DataObject) -> None:
    """Bytes that are missing, others, or more: never another exception, and never an array that is not in the body."""
    body = bytearray(saved(array))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        what = data.draw(st.sampled_from(["cut", "change", "insert"]))
        if what == "cut":
            del body[at : at + data.draw(st.integers(1, 8))]
        else:
            given = data.draw(st.binary(min_size=1, max_size=4) | st.sampled_from([b"-", b"9", b"(", b"0", b",", b"'"]))
            body[at : at + (len(given) if what == "change" else 0)] = given
    read_or_refused(bytes(body))


@given(
    st.sampled_from(["'<f4'", "'|S3'", "'<U2'", "'>i8'", "'|b1'", "'|O'", "'f4,i4'", "''", "'x'", "None", "3", "[]"]),
    st.lists(st.integers(-3, 5) | st.sampled_from([2**31, 2**63, 10**30]), max_size=4),
    st.sampled_from(["True", "False", "0", "None", "'F'"]),
    st.sampled_from([b"\1\0", b"\2\0", b"\3\0"]),
    st.binary(max_size=64),
)
def test_any_head_is_read_or_refused(descr: str, shape: list[int], order: str, version: bytes, data: bytes) -> None:
    read_or_refused(made(str(tuple(shape)), data, descr, order, version))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(rest: bytes) -> None:
    read_or_refused(rest)
    read_or_refused(b"\x93NUMPY\1\0" + rest)


def read_or_refused(body: bytes) -> None:
    try:
        instances = npy.read(body)
    except BadRequest:
        return
    assert 0 < instances.array.nbytes <= len(body)
    for instance in instances:
        instance.tolist()


@pytest.mark.parametrize(
    "body",
    [
        made(f"({10**9}, 0)"),
        made(f"({10**9},)"),
        made(f"({2**40},)", version=b"\2\0"),
        made("(1,)", descr="'|S2000000000'"),
        b"\x93NUMPY\2\0\xff\xff\xff\xff{}",
        saved(np.zeros(1_000_000, np.int8)),
    ],
    ids=["no elements", "many elements", "many more", "a long element", "a long head", "many instances"],
)
def test_reading_takes_no_more_memory_than_the_body(body: bytes) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(BadRequest):
            npy.read(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(body) + 500_000


# What is written


def written(predictions: Any, whole: bool = False) -> NDArray[Any]:
    body = npy.write(Reply(predictions, whole))
    return np.asarray(np.load(io.BytesIO(body), allow_pickle=False))


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ([1, 2], np.array([1, 2])),
        ([[0.5, 1], [2, 3]], np.array([[0.5, 1], [2, 3]])),
        ([True, False], np.array([True, False])),
        (np.ones((2, 3), np.float16), np.ones((2, 3), np.float16)),
        ([np.ones(2, np.float32), np.zeros(2, np.float32)], np.array([[1, 1], [0, 0]], np.float32)),
        ((1.5, np.float32(2)), np.array([1.5, 2])),
    ],
)
def test_predictions_are_one_array(predictions: Any, expected: NDArray[Any]) -> None:
    array = written(predictions)
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


def test_what_is_whole_has_no_dimension_for_the_instances() -> None:
    np.testing.assert_array_equal(written([np.ones((2, 3))], whole=True), np.ones((2, 3)))


@pytest.mark.parametrize(
    "predictions",
    [
        ["a"],
        [{"Y": 1}],
        [[1], [1, 2]],
        [None],
        [b"x"],
        [1, "a"],
        [2**70],
        [1j],
        [[np.ones(2), np.ones(3)]],
        np.array(["a"]),
        np.array([b"x"], np.object_),
    ],
)
def test_what_is_not_one_array_of_numbers_cannot_be_asked_for(predictions: Any) -> None:
    with pytest.raises(BadRequest, match=r"^these predictions are not one array of numbers; ask for application/json$"):
        npy.write(Reply(predictions))
    if isinstance(predictions, list):
        with pytest.raises(BadRequest):
            npy.write(Reply([predictions], whole=True))


@given(ARRAYS)
def test_what_was_written_can_be_read(array: NDArray[Any]) -> None:
    if array.dtype.kind in "biuf":
        np.testing.assert_array_equal(npy.read(npy.write(Reply(array))).array, array)
