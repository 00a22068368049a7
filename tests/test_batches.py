"""Instances as batches: what may differ among rows, what is padded, and the order of the answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listener import batches
from listener.batches import Batch, in_order, of_json, of_rows, padding
from listener.tensors import NUMPY, ModelSpec, TensorError, TensorSpec, fits
from listener.values import as_batch, from_instance
from tests.test_values import INSTANCES, MODELS


def model(*inputs: TensorSpec, batch: int = 8, pad: str | None = None) -> ModelSpec:
    return ModelSpec("m", inputs, (), batch, pad=pad)


def tensor(name: str, *shape: int, datatype: str = "FP32", optional: bool = False, ragged: bool = False) -> TensorSpec:
    return TensorSpec(name, datatype, shape, optional, ragged)


def listed(found: list[Batch]) -> list[tuple[list[int], dict[str, Any]]]:
    return [(list(batch.places), {name: array.tolist() for name, array in batch.arrays.items()}) for batch in found]


def by_place(found: list[Batch]) -> dict[int, dict[str, Any]]:
    return {
        place: {name: rows[at] for name, rows in arrays.items()}
        for places, arrays in listed(found)
        for at, place in enumerate(places)
    }


def refusal(instances: list[Any], spec: ModelSpec) -> tuple[str, int]:
    with pytest.raises(TensorError) as caught:
        of_json(instances, spec)
    return caught.value.args


RAGGED = model(tensor("x", -1, ragged=True))
PLAIN = model(tensor("x", -1))
OPTIONAL = model(tensor("a", -1), tensor("b", 1, optional=True))


# What may differ


def test_alike_instances_are_one_batch() -> None:
    assert listed(of_json([[1, 2], {"x": [3, 4]}], PLAIN)) == [([0, 1], {"x": [[1, 2], [3, 4]]})]
    assert listed(of_json([5], PLAIN)) == [([0], {"x": [[5]]})]
    assert listed(of_json([5, [6]], PLAIN)) == [([0, 1], {"x": [[5], [6]]})]


@pytest.mark.parametrize(
    ("instances", "spec", "found"),
    [
        (
            [[1], [2, 3], [4], [], [5, 6]],
            RAGGED,
            [([0, 2], {"x": [[1], [4]]}), ([1, 4], {"x": [[2, 3], [5, 6]]}), ([3], {"x": [[]]})],
        ),
        (
            [{"a": [1], "b": 1}, {"a": [2]}, {"b": [2], "a": [3]}],
            OPTIONAL,
            [([0, 2], {"a": [[1], [3]], "b": [[1], [2]]}), ([1], {"a": [[2]]})],
        ),
        ([[1], [2, 3]], model(tensor("x", -1), batch=0), [([0], {"x": [[1]]}), ([1], {"x": [[2, 3]]})]),
        (
            [{}, {"b": 1}, {}],
            model(tensor("a", 1, optional=True), tensor("b", 1, optional=True), batch=0),
            [([0], {}), ([1], {"b": [[1]]}), ([2], {})],
        ),
        ([{}, {}], model(batch=0), [([0], {}), ([1], {})]),
    ],
    ids=["ragged", "optional", "no batching", "no inputs given", "no inputs taken"],
)
def test_what_the_configuration_lets_differ_is_a_batch_of_its_own(
    instances: list[Any], spec: ModelSpec, found: list[tuple[list[int], dict[str, Any]]]
) -> None:
    assert listed(of_json(instances, spec)) == found


@pytest.mark.parametrize(
    ("instances", "spec", "sentence", "index"),
    [
        ([[1, 2], [3, 4], [5]], PLAIN, "'x' has shape [1] where another instance has [2]", 2),
        (
            [{"a": [1]}, {"a": [1], "b": 1}, {"a": [1, 2]}],
            OPTIONAL,
            "'a' has shape [2] where another instance has [1]",
            2,
        ),
        ([[1], [2, 3], ["a"]], RAGGED, "input 'x' is FP32 and takes numbers, not 'a' at [0]", 2),
        ([[1], [2, 3], [[4]]], RAGGED, "input 'x' is nested deeper than the model takes, [-1]", 2),
        ([{"a": [1]}, {"b": 1}], OPTIONAL, "input 'a' is missing", 1),
        (
            [[1], [2, 3], [4], ["a", 5], ["b"], [6, None]],
            RAGGED,
            "input 'x' is FP32 and takes numbers, not 'a' at [0]",
            3,
        ),
        ([[1], [2, 3], ["a"], [4, "b"], 5], RAGGED, "input 'x' is FP32 and takes numbers, not 'a' at [0]", 2),
        ([5, [2, 3], [4], ["a", 5]], RAGGED, "input 'x' is FP32 and takes numbers, not 'a' at [0]", 3),
        (
            [{"c": 1}, {"b": [1]}, {"c": 2, "b": [1, 2]}],
            model(tensor("c", 1, optional=True), tensor("b", -1, optional=True)),
            "'b' has shape [2] where another instance has [1]",
            2,
        ),
        ([[1], [[2], 3]], RAGGED, "input 'x' is ragged: its lists differ in length or depth", 1),
    ],
)
def test_what_it_does_not_names_the_instance(instances: list[Any], spec: ModelSpec, sentence: str, index: int) -> None:
    assert refusal(instances, spec) == (sentence, index)


@pytest.mark.parametrize(
    ("rows", "sentence", "index"),
    [
        ([{"a": 1}, {"a": 2}, {"z": 3}], "gives the tensors 'z' where another instance gives 'a'", 2),
        ([{"a": 1, "z": 1}, {"a": 2}], "gives the tensors 'a' where another instance gives 'a', 'z'", 1),
        ([{"a": 1}, {}], "gives the tensors none where another instance gives 'a'", 1),
        ([{"z": [1, 2]}, {"z": [1, 2]}, {"z": [1]}], "'z' has shape [1] where another instance has [2]", 2),
        ([{"a": 1}, {"a": [1]}], "'a' has shape [1] where another instance has []", 1),
        ([{"r": [1]}, {"r": [[1]]}], "'r' has shape [1,1] where another instance has [1]", 1),
    ],
    ids=["another name", "a name less", "no names", "another size", "another rank", "another rank of a ragged one"],
)
def test_arrays_of_a_handler_that_differ(rows: list[Any], sentence: str, index: int) -> None:
    with pytest.raises(TensorError) as caught:
        of_rows(rows, model(tensor("a"), tensor("r", -1, ragged=True)))
    assert caught.value.args == (sentence, index)


def every_wrong(read: Any, given: Any, spec: ModelSpec) -> tuple[dict[int, str], list[int]]:
    """The sentences by place, and the places that are in a batch."""
    wrong: list[TensorError] = []
    found = read(given, spec, wrong)
    told = {error.args[1]: error.args[0] for error in wrong}
    assert len(told) == len(wrong)
    return told, sorted(place for batch in found for place in batch.places)


NO_NUMBER = "input 'x' is FP32 and takes numbers, not 'a' at [0]"


@pytest.mark.parametrize(
    ("instances", "spec", "told"),
    [
        ([[1, 2], [3, 4]], PLAIN, {}),
        ([["a"], [1, 2], ["a"], [3], [4, 5]], PLAIN,
         {0: NO_NUMBER, 2: NO_NUMBER, 3: "'x' has shape [1] where another instance has [2]"}),
        ([["a"], ["a"]], PLAIN, {0: NO_NUMBER, 1: NO_NUMBER}),
        ([[1], ["a"], [2, 3], ["a", 1], [4]], RAGGED, {1: NO_NUMBER, 3: NO_NUMBER}),
        ([{"a": [1]}, {"b": 1}, {"a": [1, 2], "b": 1}, {"a": [1], "b": 2}, {"a": [3, 4]}, {"c": 1}], OPTIONAL,
         {1: "input 'a' is missing", 2: "'a' has shape [2] where another instance has [1]",
          4: "'a' has shape [2] where another instance has [1]",
          5: "unknown input 'c'; model 'm' takes 'a' (FP32 [-1]), 'b' (FP32 [1])"}),
        ([{"a": [1]}, {"a": [1, 2], "c": [1, 2]}, {"a": [1], "c": [1]}, {"a": [1], "c": [1, 2]}],
         model(tensor("a", -1), tensor("c", -1, optional=True)),
         {1: "'a' has shape [2] where another instance has [1]",
          3: "'c' has shape [2] where another instance has [1]"}),
        ([["a"], [1], [1, 2], []], model(tensor("x", -1), batch=0), {0: NO_NUMBER}),
        ([[1], [1, 2], ["a"], [[1]]], model(tensor("x", -1), pad="0"),
         {2: NO_NUMBER, 3: "input 'x' is nested deeper than the model takes, [-1]"}),
    ],
    ids=["none", "and beside", "all", "ragged", "optional", "beside one that is wrong", "no batching", "padded"],
)  # fmt: skip
def test_every_wrong_instance_in_one_pass(instances: list[Any], spec: ModelSpec, told: dict[int, str]) -> None:
    found, good = every_wrong(of_json, instances, spec)
    assert (found, good) == (told, [place for place in range(len(instances)) if place not in told])


def test_every_array_of_a_handler_that_differs_in_one_pass() -> None:
    rows: list[Any] = [{"a": 1}, {"a": [1]}, {"z": 1}, {"a": 2}, {"a": [2]}]
    shape = "'a' has shape [1] where another instance has []"
    tensors = "gives the tensors 'z' where another instance gives 'a'"
    assert every_wrong(of_rows, rows, model(tensor("a"))) == ({1: shape, 2: tensors, 4: shape}, [0, 3])


def test_a_row_that_does_not_fit_keeps_no_other_from_being_padded() -> None:
    rows: list[Any] = [{"x": [1]}, {"x": [2, 3]}, {"x": [[4]]}, {"x": []}]
    told, good = every_wrong(of_rows, rows, model(tensor("x", -1), pad="0"))
    assert (told, good) == ({2: "'x' has shape [1,1] where another instance has [2]"}, [0, 1, 3])


def test_thousands_of_wrong_instances_are_read_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counting(instances: Any, spec: ModelSpec) -> Any:
        seen.append(len(instances))
        return as_batch(instances, spec)

    monkeypatch.setattr(batches, "as_batch", counting)
    told, good = every_wrong(of_json, [["a"], [1]] * 2048, PLAIN)
    assert (list(told), good) == (list(range(0, 4096, 2)), list(range(1, 4096, 2)))
    assert sum(seen) <= 7 * 4096
    seen.clear()
    told, good = every_wrong(of_json, [[0.5] * size for size in range(1, 301)], PLAIN)
    assert (len(told), good) == (299, [0])
    assert sum(seen) <= 2 * 300


@given(
    st.lists(st.sampled_from([1, [2], [3, 4], "a", ["b"], [5, None], {"x": 6}, {"y": 7}, {}]), min_size=1, max_size=40),
    st.sampled_from([RAGGED, PLAIN, model(tensor("x", -1), pad="0"), model(tensor("x", -1), batch=0)]),
)
def test_what_is_not_wrong_is_read_as_if_it_came_alone(instances: list[Any], spec: ModelSpec) -> None:
    told, good = every_wrong(of_json, instances, spec)
    assert sorted([*told, *good]) == list(range(len(instances)))
    if told:
        sentence, place = refusal(instances, spec)
        assert told[place] == sentence
    wrong: list[TensorError] = []
    found = by_place(of_json(instances, spec, wrong))
    left = by_place(of_json([instances[place] for place in good], spec)) if good else {}
    assert found == {good[place]: row for place, row in left.items()}


def test_arrays_of_a_handler_go_by_the_same_rules() -> None:
    rows: list[Any] = [{"x": np.ones(2)}, {"x": [1.0]}, {"x": (3, 4)}]
    assert listed(of_rows(rows, RAGGED)) == [([0, 2], {"x": [[1, 1], [3, 4]]}), ([1], {"x": [[1]]})]
    assert listed(of_rows([{"a": 1, "z": [2]}], OPTIONAL)) == [([0], {"a": [1], "z": [[2]]})]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_answers_come_in_the_order_of_the_instances(lengths: list[int]) -> None:
    instances = [[float(index)] * length for index, length in enumerate(lengths)]
    found = of_json(instances, RAGGED)
    assert in_order(found, [[row.tolist() for row in batch.arrays["x"]] for batch in found]) == instances
    assert len(found) == len(set(lengths))


@given(
    st.lists(st.sampled_from([1, [2], [3, 4], "a", ["b"], [5, None], {"x": 6}, {"y": 7}, {}]), min_size=1, max_size=40)
)
def test_of_several_wrong_instances_the_first_is_named(instances: list[Any]) -> None:
    def wrong(instance: Any) -> bool:
        try:
            from_instance(instance, RAGGED)
        except TensorError:
            return True
        return False

    places = [place for place, instance in enumerate(instances) if wrong(instance)]
    if places:
        assert refusal(instances, RAGGED)[1] == places[0]
    else:
        assert sum(len(batch.places) for batch in of_json(instances, RAGGED)) == len(instances)


@settings(max_examples=500)
@given(st.lists(INSTANCES, min_size=1, max_size=4), MODELS, st.booleans(), st.sampled_from([None, "0"]))
def test_every_instance_is_in_one_batch_or_named(
    instances: list[Any], spec: ModelSpec, ragged: bool, pad: str | None
) -> None:
    spec = replace(spec, pad=pad, inputs=tuple(replace(tensor, ragged=ragged) for tensor in spec.inputs))
    if pad is not None:
        try:
            padding(spec)
        except TensorError:
            return
    try:
        found = of_json(instances, spec)
    except TensorError as error:
        sentence, index = error.args
        assert sentence
        assert 0 <= index < len(instances)
        return
    assert sorted(place for batch in found for place in batch.places) == list(range(len(instances)))
    for batch in found:
        for name, array in batch.arrays.items():
            (known,) = [tensor for tensor in spec.inputs if tensor.name == name]
            assert (len(array), array.dtype) == (len(batch.places), NUMPY[known.datatype])
            assert fits(array.shape[1:], known.shape)


# Padding


@pytest.mark.parametrize(
    ("datatype", "text", "value"),
    [
        ("INT64", "-1", -1),
        ("INT64", "9223372036854775807", 2**63 - 1),
        ("UINT8", "2.0", 2),
        ("FP16", "0.5", 0.5),
        ("FP32", "-1e3", -1000.0),
        ("FP64", "-Infinity", -np.inf),
        ("BF16", "0.1", 0.10009765625),
        ("BOOL", "true", True),
        ("BOOL", "false", False),
        ("BYTES", "[PAD]", b"[PAD]"),
        ("BYTES", "0", b"0"),
        ("BYTES", "", b""),
    ],
)
def test_what_rows_are_padded_with(datatype: str, text: str, value: Any) -> None:
    spec = model(tensor("x", -1, datatype=datatype), tensor("fixed", 2, datatype="BOOL"), pad=text)
    found = padding(spec)
    assert list(found) == ["x"]
    assert (found["x"].shape, found["x"].dtype, found["x"].item()) == ((), NUMPY[datatype], value)


@pytest.mark.parametrize(
    ("datatype", "text"),
    [
        *(
            (datatype, text)
            for datatype in ("INT8", "UINT64", "FP32", "BOOL")
            for text in ("x", "", " 0", "null", "[]")
        ),
        ("INT8", "128"),
        ("INT8", "0.5"),
        ("INT8", "NaN"),
        ("UINT8", "-1"),
        ("FP16", "1e6"),
        ("FP32", "nan"),
        ("BOOL", "0"),
        ("BOOL", "True"),
    ],
)
def test_what_cannot_fill_up_an_input(datatype: str, text: str) -> None:
    with pytest.raises(TensorError) as caught:
        padding(model(tensor("x", 2, -1, datatype=datatype), pad=text))
    told = f"the parameter listener_pad is {text!r}, which cannot fill up input 'x', which is {datatype}"
    assert str(caught.value) == told


def test_without_the_parameter_nothing_is_padded() -> None:
    assert padding(PLAIN) == {}


@pytest.mark.parametrize(
    ("instances", "spec", "rows"),
    [
        ([[1], [2, 3, 4], []], model(tensor("x", -1), pad="9"), {"x": [[1, 9, 9], [2, 3, 4], [9, 9, 9]]}),
        (
            [[[1, 2]], [[3], [4]]],
            model(tensor("x", -1, -1), pad="0"),
            {"x": [[[1, 2], [0, 0]], [[3, 0], [4, 0]]]},
        ),
        (
            [{"x": ["a"], "y": [[True]]}, {"x": ["b", "c"], "y": [[True], [True]]}],
            model(tensor("x", -1, datatype="BYTES"), tensor("y", -1, 1, datatype="BOOL"), pad="false"),
            {"x": [[b"a", b"false"], [b"b", b"c"]], "y": [[[True], [False]], [[True], [True]]]},
        ),
        ([[1], [2, 3]], model(tensor("x", -1, ragged=True), pad="0"), {"x": [[1, 0], [2, 3]]}),
        (
            [["a"], ["b\0", "c"]],
            model(tensor("x", -1, datatype="BYTES"), pad="\0"),
            {"x": [[b"a", b"\0"], [b"b\0", b"c"]]},
        ),
    ],
    ids=["one size", "two sizes", "two inputs", "ragged as well", "texts with NUL"],
)
def test_short_rows_are_filled_up_at_the_end(instances: list[Any], spec: ModelSpec, rows: dict[str, Any]) -> None:
    assert listed(of_json(instances, spec)) == [(list(range(len(instances))), rows)]


def test_fixed_sizes_are_not_padded() -> None:
    spec = model(tensor("x", -1, 2), pad="0")
    assert refusal([[[1, 2]], [[1]]], spec) == ("input 'x' has shape [1,1]; the model takes [-1,2]", 1)
    fixed = model(tensor("x", 2), tensor("y", -1), pad="0")
    assert refusal([{"x": [1, 2], "y": [1]}, {"x": [1], "y": []}], fixed)[1] == 1


def test_where_instances_are_calls_of_their_own_nothing_is_padded() -> None:
    spec = model(tensor("x", -1), batch=0, pad="0")
    assert [batch.arrays["x"].shape for batch in of_json([[1], [2, 3]], spec)] == [(1, 1), (1, 2)]


def test_an_input_that_some_leave_out_is_padded_among_the_others() -> None:
    spec = model(tensor("a", 1), tensor("b", -1, optional=True), pad="0")
    found = of_json([{"a": 1, "b": [1, 2]}, {"a": 2}, {"a": 3, "b": [3]}], spec)
    assert listed(found) == [([0, 2], {"a": [[1], [3]], "b": [[1, 2], [3, 0]]}), ([1], {"a": [[2]]})]


def test_arrays_of_a_handler_are_padded_in_the_models_datatype() -> None:
    spec = model(tensor("x", -1, datatype="INT32"), pad="-1")
    ((_, arrays),) = of_rows([{"x": np.ones(1, np.uint8)}, {"x": [2, 3]}], spec)
    assert (arrays["x"].dtype, arrays["x"].tolist()) == (np.dtype(np.int32), [[1, -1], [2, 3]])
    with pytest.raises(TensorError, match="'x' has shape"):
        of_rows([{"x": np.ones(1, np.uint8)}, {"x": [[2, 3]]}], spec)


def test_a_few_numbers_cannot_ask_for_any_amount_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_PADDED", 4 << 20)
    for datatype, width in (("FP32", 4), ("BYTES", 5)):
        fine = of_json(
            [[], [0] * 1000] if width == 4 else [[], ["a"] * 1000], model(tensor("x", -1, datatype=datatype), pad="0")
        )
        assert fine[0].arrays["x"].shape == (2, 1000)
        value: Any = 0 if width == 4 else "a"
        instances = [[], [value] * 2000, *[[value]] * 998]
        told = f"input 'x': 1000 rows padded to [2000] would take {2_000_000 * width >> 20} MiB where 4 are allowed"
        assert refusal(instances, model(tensor("x", -1, datatype=datatype), pad="0")) == (told, 1)


def test_without_room_for_all_the_longest_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_PADDED", 4 * 60)
    spec = model(tensor("x", -1), pad="0")
    instances: list[Any] = [[1] * 30, [1], [2] * 10, [3] * 10, [4] * 10, [5] * 10, [6] * 10, ["a"], [7] * 40]
    sentence = "input 'x': 8 rows padded to [40] would take 0 MiB where 0 are allowed"
    told, good = every_wrong(of_json, instances, spec)
    assert told == {0: sentence, 7: NO_NUMBER, 8: sentence}
    assert good == [1, 2, 3, 4, 5, 6]
    told, good = every_wrong(of_json, [*instances[:7], [7] * 10], spec)
    assert (list(told), good) == ([7, 0], [1, 2, 3, 4, 5, 6])
    rows = [{"x": np.ones(len(each), np.float32)} for each in instances if each != ["a"]]
    assert every_wrong(of_rows, rows, spec) == ({0: sentence, 7: sentence}, [1, 2, 3, 4, 5, 6])


def test_rows_of_one_batch_are_in_order_whatever_their_forms() -> None:
    """Bytes and lists are read apart, and joined."""
    spec = ModelSpec("m", (TensorSpec("x", "UINT8", (1,)),), (), 8)
    (batch,) = batches.of_json([{"x": b"\x00"}, {"x": [1]}, {"x": b"\x02"}, {"x": [3]}], spec)
    assert (list(batch.places), batch.arrays["x"].tolist()) == ([0, 1, 2, 3], [[0], [1], [2], [3]])
