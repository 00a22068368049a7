from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest

from benchmarks import answers, loads, pictures
from benchmarks.loads import BODIES

NAMES = ("W1", "W2", "W3", "W4")


@pytest.mark.parametrize("name", NAMES)
def test_every_body_is_another_one_and_has_another_answer(name: str) -> None:
    load = loads.by_name(name)
    form: loads.Form = "raw" if name == "W3" else "instances"
    assert len({body.data for body in load.bodies(form)}) == len(load.expected) == BODIES
    for index, one in enumerate(load.expected):
        assert not any(
            np.allclose(one, other, rtol=load.tolerance, atol=load.tolerance) for other in load.expected[:index]
        )


def test_numbers_in_the_platforms_form_and_in_tritons() -> None:
    load = loads.by_name("W4")
    ours, direct = (json.loads(load.bodies(form)[0].data) for form in ("instances", "oip"))
    (tensor,) = direct["inputs"]
    assert tensor["shape"] == [64, 16]
    assert np.array(ours["instances"]).ravel().tolist() == tensor["data"]


def test_a_picture_has_about_40_kilobytes_and_is_the_same_in_both_forms() -> None:
    load = loads.by_name("W2")
    ours, direct = (json.loads(load.bodies(form)[0].data) for form in ("instances", "oip"))
    assert ours["instances"] == [{"b64": direct["inputs"][0]["data"][0]}]
    assert all(36_000 < len(file) < 46_000 for file in load.inputs)


def test_the_models_bands_are_those_that_are_expected() -> None:
    load = loads.by_name("W2")
    batch = np.stack([pictures.pixels(file) for file in load.inputs])
    assert np.allclose(pictures.bands(batch), np.concatenate(list(load.expected)), atol=1e-5)


@pytest.mark.parametrize("form", ["vertex-binary", "oip-binary"])
def test_a_binary_body_says_where_its_header_ends(form: loads.Form) -> None:
    body = loads.by_name("W3").bodies(form)[0]
    said = body.headers.get("Inference-Header-Content-Length") or body.headers["Content-Type"].partition("size=")[2]
    header, data = json.loads(body.data[: int(said)]), body.data[int(said) :]
    assert header["inputs"][0]["parameters"]["binary_data_size"] == len(data) == 3 * 512 * 512 * 4


def test_a_servers_own_headers_win() -> None:
    (first, *_) = loads.by_name("W3").bodies("raw", {"Content-Type": "application/x-tensor"})
    assert first.headers == {"Content-Type": "application/x-tensor"}


FLOATS = np.array([1.5, -2.0], "<f4").tobytes()
OUTPUT = json.dumps({"outputs": [{"name": "Y", "parameters": {"binary_data_size": 8}}]}).encode()


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({"content-type": "application/json"}, b'{"predictions": [[1.5, -2.0]]}'),
        ({"content-type": "application/json"}, b'{"predictions": [{"Y": [1.5, -2.0]}]}'),
        ({"content-type": "application/json"}, b'{"outputs": [{"name": "Y", "data": [1.5, -2.0]}]}'),
        ({"content-type": "application/octet-stream"}, FLOATS),
        ({"inference-header-content-length": str(len(OUTPUT))}, OUTPUT + FLOATS),
        ({"content-type": f"application/vnd.x+json;json-header-size={len(OUTPUT)}"}, OUTPUT + FLOATS),
    ],
)
def test_answers_of_every_form_are_read(headers: Mapping[str, str], data: bytes) -> None:
    assert answers.numbers(headers, data).tolist() == [1.5, -2.0]
