"""From names of objects to files: nothing gets out of the folder, and nothing is lost in silence."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.artifacts import bucket
from listener.artifacts.bucket import Bucket, Contents, Item
from listener.errors import ConfigError

MODELS = Bucket("b", "models/")


def item(name: str, size: int = 1, generation: int = 1) -> Item:
    return Item(name, size, generation)


def contents(*names: str, place: Bucket = MODELS) -> Contents:
    return bucket.contents(place, [item(name) for name in names])


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("gs://b", Bucket("b", "")),
        ("gs://b/", Bucket("b", "")),
        ("gs://b/models", MODELS),
        ("gs://b/models/", MODELS),
        ("gs://b/models//", MODELS),
        ("gs://b/a/b c", Bucket("b", "a/b c/")),
    ],
)
def test_a_slash_at_the_end_makes_no_difference(uri: str, expected: Bucket) -> None:
    assert bucket.parse(uri) == expected


def test_a_place_is_shown_as_it_is_written() -> None:
    assert (str(bucket.parse("gs://b/models")), str(bucket.parse("gs://b"))) == ("gs://b/models/", "gs://b/")


def test_keys_tell_places_apart_and_are_plain_file_names() -> None:
    places = ["gs://b/a/b", "gs://b/a-b", "gs://b-a/b", "gs://b", "gs://b/ä", "gs://b/" + "x" * 900, "gs://b/..a/."]
    keys = [bucket.parse(place).key for place in places]
    assert len(set(keys)) == len(places)
    for key in keys:
        assert key.isascii() and len(key) < 100 and "/" not in key and not key.startswith((".", "-"))


def test_objects_become_files_below_the_folder() -> None:
    found = contents("models/digits/config.pbtxt", "models/digits/1/model.onnx")
    assert {path: item.name for path, item in found.files.items()} == {
        "digits/config.pbtxt": "models/digits/config.pbtxt",
        "digits/1/model.onnx": "models/digits/1/model.onnx",
    }
    assert found.nbytes == 2


def test_placeholders_are_not_fetched() -> None:
    found = contents("models/", "models/digits/", "models/empty/", "models/digits/config.pbtxt")
    assert (list(found.files), found.folders) == (["digits/config.pbtxt"], ())


def test_an_empty_version_folder_is_kept_for_an_ensemble() -> None:
    found = contents("models/both/config.pbtxt", "models/both/1/", "models/gone/1/")
    assert (list(found.files), found.folders) == (["both/config.pbtxt"], ("both/1",))


@pytest.mark.parametrize(
    "names", [(), ("models/",), ("models/a/", "models/a/1/")], ids=["none", "root", "placeholders"]
)
def test_nothing_is_a_sentence(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        contents(*names)
    assert caught.value.mistakes == (
        "gs://b/models/: nothing lies there; check bucket and prefix, and that the upload is complete",
    )


OUTSIDE = "would lie outside of the folder, or has an empty part"
ODD = "holds a backslash or a control character"
WRONG = {
    "models/../x": OUTSIDE,
    "models/a/../../x": OUTSIDE,
    "models/..": OUTSIDE,
    "models/./x": OUTSIDE,
    "models//etc/passwd": OUTSIDE,
    "models/a//x": OUTSIDE,
    "models/a\\..\\x": ODD,
    "models/C:\\x": ODD,
    "models/a\0b": ODD,
    "models/a\nb": ODD,
    "models/a\x1b[31m": ODD,
    "models/\ud800": ODD,
    "models/" + "x" * 256: "has a part of more than 255 bytes",
    "models/" + "ä" * 128: "has a part of more than 255 bytes",
}


@pytest.mark.parametrize(
    ("name", "reason"), WRONG.items(), ids=[re.sub(r"[^\w.]+", " ", ascii(name))[:30] for name in WRONG]
)
def test_a_name_that_cannot_be_a_files_is_refused_whatever_else_lies_there(name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        contents("models/digits/config.pbtxt", name)
    (sentence,) = caught.value.mistakes
    assert sentence.startswith("gs://b/models/: the object '")
    assert sentence.endswith(f"' {reason} and cannot become a file; rename or remove it")
    assert sentence.isprintable()


def test_a_placeholder_cannot_lead_out_either() -> None:
    with pytest.raises(ConfigError, match="would lie outside of the folder"):
        contents("models/a/x", "models/a/../../b/")


@pytest.mark.parametrize("other", ["models/a/1/model.onnx", "models/a/1/"])
def test_a_file_that_would_have_to_be_a_folder_as_well(other: str) -> None:
    with pytest.raises(ConfigError) as caught:
        contents("models/a/1", "models/a/config.pbtxt", other)
    assert "the object 'a/1' would have to be a file and, for 'a/1/" in str(caught.value)


def test_the_digest_is_another_one_for_every_change() -> None:
    def digest(*items: Item) -> str:
        return bucket.contents(MODELS, items).digest

    before = [item("models/a/x", 3, 7), item("models/b", 1, 1)]
    changes = [
        [item("models/a/x", 4, 7), before[1]],
        [item("models/a/x", 3, 8), before[1]],
        [item("models/a/y", 3, 7), before[1]],
        [*before, item("models/c")],
        [*before, item("models/a/1/")],
        before[:1],
    ]
    assert len({digest(*before), *(digest(*change) for change in changes)}) == len(changes) + 1
    assert digest(*reversed(before)) == digest(*before)


@pytest.mark.parametrize(
    "names",
    [
        ("models/a/x", "models/A/x"),
        ("models/a/x", "models/A/y"),
        ("models/a/Straße", "models/a/STRASSE"),
        ("models/a/\u00e9", "models/a/e\u0301"),
        ("models/a/x", "models/a/1/", "models/A/1/", "models/A/y"),
    ],
)
def test_names_that_are_one_where_case_does_not_count(names: tuple[str, ...]) -> None:
    found = contents(*names)
    with pytest.raises(ConfigError, match="differ only in case, which the file system here does not tell apart"):
        bucket.refuse_twins(found, MODELS)


def test_names_that_are_several_everywhere() -> None:
    bucket.refuse_twins(contents("models/a/x", "models/a/y", "models/b/x", "models/a/1/"), MODELS)


_NAMES = st.text(st.sampled_from("ab./\\~\n é\0"), max_size=12).map("models/".__add__)


@given(st.lists(_NAMES | st.text(max_size=8).map("models/".__add__), max_size=6, unique=True))
def test_whatever_is_listed_becomes_files_inside_or_a_sentence(names: list[str]) -> None:
    try:
        found = contents(*names)
    except ConfigError as error:
        assert all(sentence.isprintable() for sentence in error.mistakes)
        return
    root = Path("/srv/store")
    for path in [*found.files, *found.folders]:
        assert PurePosixPath(root / path).is_relative_to(root)
        assert not {"..", ".", ""} & set(path.split("/"))
    assert {item.name for item in found.files.values()} == {name for name in names if not name.endswith("/")}
