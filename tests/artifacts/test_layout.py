"""Model repository, service or neither."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.artifacts import layout
from listener.artifacts.layout import Kind, Single
from listener.errors import ConfigError

EXPECTED = (
    "expected is a Triton model repository (a folder for each model, with config.pbtxt or a version folder such as 1), "
    "a service (a folder with listener.yaml), or one model's folder or version folder"
)

GOOD = {
    "a model with configuration": (["digits/config.pbtxt", "digits/1/model.onnx"], Kind.REPOSITORY),
    "a model without configuration": (["digits/12/model.onnx"], Kind.REPOSITORY),
    "a model without version": (["digits/config.pbtxt"], Kind.REPOSITORY),
    "files beside the models": (["README.md", "digits/1/model.onnx", "docs/a.md"], Kind.REPOSITORY),
    "a model whose name is a number": (["5/1/model.onnx"], Kind.REPOSITORY),
    "a service": (["listener.yaml", "handlers/a.py", "triton_repo/digits/1/model.onnx"], Kind.SERVICE),
    "listener.yaml alone": (["listener.yaml"], Kind.SERVICE),
    "listener.yaml among the models": (["listener.yaml", "digits/1/model.onnx"], Kind.SERVICE),
    "one model": (["config.pbtxt", "1/model.onnx"], Kind.MODEL),
    "one model without configuration": (["1/model.onnx", "2/model.onnx", "README.md"], Kind.MODEL),
    "one model without version": (["config.pbtxt"], Kind.MODEL),
    "one version": (["model.onnx", "labels.txt"], Kind.VERSION),
    "one version whose model is a folder": (["model.savedmodel/saved_model.pb"], Kind.VERSION),
    "one version with its configuration": (["model.py", "config.pbtxt"], Kind.VERSION),
}
WRONG = {
    "a file that no backend looks for": (
        ["digits.onnx"],
        f"PLACE: is nothing that can be served; found are digits.onnx; {EXPECTED}; "
        "name the folder that holds the models",
    ),
    "a version that Triton passes over": (
        ["01/digits.onnx"],
        f"PLACE: is nothing that can be served; found are 01/; {EXPECTED}; name the folder that holds the models",
    ),
    "the folder above": (
        ["service/listener.yaml", "other/a/1/model.onnx"],
        f"PLACE: is nothing that can be served; found are other/, service/; {EXPECTED}; "
        "name the folder that holds the models",
    ),
    "a listener.yaml that is a folder": (
        ["listener.yaml/x"],
        f"PLACE: is nothing that can be served; found are listener.yaml/; {EXPECTED}; "
        "name the folder that holds the models",
    ),
    "many things": (
        [f"file{n}" for n in range(9)],
        "PLACE: is nothing that can be served; found are file0, file1, file2, file3, file4 and 4 more; "
        f"{EXPECTED}; name the folder that holds the models",
    ),
    "nothing": ([], f"PLACE: is empty; {EXPECTED}"),
}


def make(folder: Path, paths: list[str]) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


@pytest.mark.parametrize(("paths", "kind"), GOOD.values(), ids=GOOD.keys())
def test_what_can_be_served(tmp_path: Path, paths: list[str], kind: Kind) -> None:
    assert layout.kind(layout.of_paths(paths), "PLACE") is kind
    assert layout.kind(layout.of_folder(make(tmp_path, paths), "PLACE"), "PLACE") is kind


@pytest.mark.parametrize(("paths", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_served_is_told_with_what_was_found(tmp_path: Path, paths: list[str], sentence: str) -> None:
    for found in (layout.of_paths(paths), layout.of_folder(make(tmp_path, paths), "PLACE")):
        with pytest.raises(ConfigError) as caught:
            layout.kind(found, "PLACE")
        assert caught.value.mistakes == (sentence,)


NAMES = {
    "a model": (Kind.MODEL, "gs://b/models/digits", "", Single("digits", "")),
    "with a slash": (Kind.MODEL, "gs://b/models/digits/", "", Single("digits", "")),
    "a number": (Kind.MODEL, "gs://b/models/3", "", Single("3", "")),
    "a version": (Kind.VERSION, "gs://b/models/digits/3", "", Single("digits", "3")),
    "a version in a folder of no number": (Kind.VERSION, "gs://b/models/digits", "", Single("digits", "1")),
    "a version that Triton passes over": (Kind.VERSION, "gs://b/models/03", "", Single("03", "1")),
    "a folder": (Kind.MODEL, "/srv/digits", "", Single("digits", "")),
    "a folder's version": (Kind.VERSION, "/srv/digits/12/", "", Single("digits", "12")),
    "its configuration": (Kind.MODEL, "gs://b/x/artifacts", 'name: "digits"', Single("digits", "")),
    "its configuration at a bucket's root": (Kind.VERSION, "gs://b", 'name: "digits"', Single("digits", "1")),
}


@pytest.mark.parametrize(("kind", "named", "config", "single"), NAMES.values(), ids=NAMES.keys())
def test_what_one_model_is_called(kind: Kind, named: str, config: str, single: Single) -> None:
    assert layout.single(kind, named, config) == single


def test_a_relative_name_is_that_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits/2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "digits/2")
    assert layout.single(Kind.VERSION, ".", "") == Single("digits", "2")
    assert layout.single(Kind.MODEL, "..", "") == Single("digits", "")


@pytest.mark.parametrize(
    ("kind", "named", "config", "sentence"),
    [
        (Kind.MODEL, "gs://b", "", "gs://b: holds one model's folder, and no folder there says the model's name; put "),
        (Kind.VERSION, "gs://b/3/", "", "gs://b/3/: holds one version's folder, and no folder there says the model's "),
        (Kind.MODEL, "/", "", "/: holds one model's folder, and no folder there says the model's name; put it into a "),
        (Kind.MODEL, "gs://b/a", 'name: "../x"', "gs://b/a: the model's name would be '../x', which no folder can "),
        (Kind.MODEL, "gs://b/..", "", "gs://b/..: the model's name would be '..', which no folder can have"),
    ],
)
def test_one_model_that_has_no_name(kind: Kind, named: str, config: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        layout.single(kind, named, config)
    assert caught.value.mistakes[0].startswith(sentence)


def test_what_has_no_name_is_refused_by_its_listing() -> None:
    for paths in (["1/model.onnx"], ["model.onnx"]):
        with pytest.raises(ConfigError, match="no folder there says the model's name"):
            layout.kind(layout.of_paths(paths), "gs://b/")
    assert layout.kind(layout.of_paths(["config.pbtxt", "1/model.onnx"]), "gs://b/") is Kind.MODEL  # that may say it


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("", ""),
        ("name: 'a'", "a"),
        ('platform: "x"\n  name : "a b" # name: "c"', "a b"),
        ('# name: "c"\nmax_batch_size: 8', ""),
        ('input [ { name: "x" dims: [ 2 ] } ]\noutput { name: "y" }\nname: "a"', "a"),
        ('input [ { name: "x" } ]', ""),
        ("parameters { key: \"name: 'z' }\" }", ""),
        ('backend: "{"\nname: "a"', "a"),
        ('filename: "x"', ""),
    ],
)
def test_the_name_in_a_configuration(config: str, name: str) -> None:
    assert layout.configured_name(config) == name


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        layout.of_folder(tmp_path / "nowhere", "./nowhere")
    assert caught.value.mistakes == (f"./nowhere: no such folder; {EXPECTED}",)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ConfigError) as caught:
        layout.of_folder(tmp_path / "model.onnx", "model.onnx")
    assert caught.value.mistakes == (f"model.onnx: is a file; {EXPECTED}",)


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ConfigError) as caught:
        layout.of_folder(tmp_path, "models")
    assert caught.value.mistakes == (f"models: cannot be read: Permission denied ({tmp_path})",)


def test_links_count_as_what_they_lead_to(tmp_path: Path) -> None:
    make(tmp_path, ["elsewhere/1/model.onnx", "models/README"])
    (tmp_path / "models/digits").symlink_to(tmp_path / "elsewhere")
    assert layout.kind(layout.of_folder(tmp_path / "models", "m"), "m") is Kind.REPOSITORY


_PART = st.text(st.sampled_from("ab1."), min_size=1, max_size=3).filter(lambda part: part not in (".", ".."))


@given(st.lists(st.lists(_PART, min_size=1, max_size=3).map("/".join), max_size=5))
def test_every_listing_is_a_kind_or_one_sentence(paths: list[str]) -> None:
    try:
        layout.kind(layout.of_paths(paths), "PLACE")
    except ConfigError as error:
        (sentence,) = error.mistakes
        assert sentence.startswith("PLACE: ")
        assert len(sentence.splitlines()) == 1
