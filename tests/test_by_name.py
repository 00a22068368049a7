"""The mapping of a handler's models, and what it says of a name that is not there."""

from __future__ import annotations

import traceback

import pytest

from listener.by_name import ByName, NoSuchModel


def test_a_name_that_is_there() -> None:
    models = ByName({"a": 1, "b": 2})
    assert (models["a"], models.get("c"), "c" in models, list(models)) == (1, None, False, ["a", "b"])


def test_a_name_that_is_not_there_is_a_key_error_that_says_what_to_do() -> None:
    with pytest.raises(KeyError) as caught:
        _ = ByName({"a": 1, "b": 2})["x"]
    sentence = "no model 'x' for this handler; it has 'a', 'b'; name further ones in uses = ('x',)"
    assert isinstance(caught.value, NoSuchModel)
    assert str(caught.value) == sentence
    assert traceback.format_exception_only(caught.value)[-1] == f"listener.by_name.NoSuchModel: {sentence}\n"


def test_where_there_are_no_models_at_all() -> None:
    with pytest.raises(NoSuchModel, match="it has none; name"):
        _ = ByName[int]()["x"]
