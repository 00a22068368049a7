"""Model repository, service or neither."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.artifacts import layout
from listener.artifacts.layout import Kind
from listener.errors import ConfigError

EXPECTED = (
    "expected is a Triton model repository (a folder for each model, with config.pbtxt or a version folder such as 1) "
    "or a service (a folder with listener.yaml)"
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
}
WRONG = {
    "one model": (
        ["config.pbtxt", "1/model.onnx"],
        "PLACE: holds one model's 1/, config.pbtxt; name the folder above it, in which each folder is a model",
    ),
    "one model without configuration": (
        ["1/model.onnx", "2/model.onnx"],
        "PLACE: holds one model's 1/, 2/; name the folder above it, in which each folder is a model",
    ),
    "one version": (
        ["model.onnx"],
        f"PLACE: is neither a model repository nor a service; found are model.onnx; {EXPECTED}; "
        "name the folder that holds the models",
    ),
    "the folder above": (
        ["service/listener.yaml", "other/a/1/model.onnx"],
        f"PLACE: is neither a model repository nor a service; found are other/, service/; {EXPECTED}; "
        "name the folder that holds the models",
    ),
    "a listener.yaml that is a folder": (
        ["listener.yaml/x"],
        f"PLACE: is neither a model repository nor a service; found are listener.yaml/; {EXPECTED}; "
        "name the folder that holds the models",
    ),
    "many things": (
        [f"file{n}" for n in range(9)],
        "PLACE: is neither a model repository nor a service; found are file0, file1, file2, file3, file4 and 4 more; "
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
