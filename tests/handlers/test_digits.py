"""What the digit handler accepts, what it refuses and in which words, and what it makes of odd pictures."""

from __future__ import annotations

import base64
import io
import json
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from openapi_schema_validator import OAS30Validator
from PIL import Image, ImageDraw

from handlers.digits import EXAMPLE, Digits
from handlers.ink import SIDE
from listener import InstanceError

ROOT = Path(__file__).resolve().parents[2]
Answer = Callable[[Any], dict[str, Any]]


def seven(size: int = 120, ink: str = "black", paper: str = "white", mode: str = "RGB") -> Image.Image:
    """A seven, upright and not to be confused."""
    picture = Image.new(mode, (size, size), paper)
    points = [(0.25 * size, 0.2 * size), (0.72 * size, 0.2 * size), (0.42 * size, 0.82 * size)]
    ImageDraw.Draw(picture).line(points, fill=ink, width=max(2, size // 12), joint="curve")
    return picture


def file(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    written = io.BytesIO()
    picture.save(written, kind, **options)
    return written.getvalue()


def prepared(instance: Any) -> npt.NDArray[np.float32]:
    return np.asarray(Digits().preprocess(instance)["X"])


def refusal(instance: Any) -> str:
    with pytest.raises(InstanceError) as caught:
        Digits().preprocess(instance)
    sentence = str(caught.value)
    assert "\n" not in sentence and 0 < len(sentence) < 200
    return sentence


def test_the_schemas_say_what_is_taken_and_given() -> None:
    for schema in (Digits.instance_schema, Digits.prediction_schema):
        OAS30Validator.check_schema(schema)
    takes = OAS30Validator(Digits.instance_schema)
    takes.validate(EXAMPLE)
    takes.validate({"b64": base64.b64encode(file(seven())).decode()})
    others: list[Any] = [EXAMPLE[1:], [17, *EXAMPLE[1:]], [True, *EXAMPLE[1:]], {"b64": ""}, {"X": []}, "text", None]
    assert not any(takes.is_valid(other) for other in others)
    probabilities = np.eye(10, dtype=np.float32)[3]
    OAS30Validator(Digits.prediction_schema).validate(Digits().postprocess({"probabilities": probabilities}))


@pytest.fixture(scope="module")
def answer() -> Answer:
    """Passes an instance through handler and model, without Triton."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(ROOT / "triton_repo/digits/1/model.onnx", providers=["CPUExecutionProvider"])
    handler = Digits()

    def run(instance: Any) -> dict[str, Any]:
        inputs = {name: array[np.newaxis] for name, array in handler.preprocess(instance).items()}
        return handler.postprocess({"probabilities": session.run(["probabilities"], inputs)[0][0]})

    return run


# --- accepted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instance", [EXAMPLE, [float(n) for n in EXAMPLE], file(seven()), file(seven(), "JPEG")])
def test_input_has_the_shape_and_type_that_the_model_takes(instance: Any) -> None:
    inputs = Digits().preprocess(instance)
    assert list(inputs) == ["X"]
    assert inputs["X"].shape == (1, SIDE, SIDE)
    assert inputs["X"].dtype == np.float32
    assert inputs["X"].min() >= 0 and 0.9 < inputs["X"].max() <= 1


def test_the_example_is_a_valid_instance(answer: Answer) -> None:
    assert answer(Digits.example)["digit"] == 0


def test_preprocess_leaves_the_instance_alone() -> None:
    numbers = list(EXAMPLE)
    prepared(numbers)
    assert numbers == EXAMPLE


def test_postprocess_answers_plain_json() -> None:
    probabilities = np.zeros(10, dtype=np.float32)
    probabilities[7], probabilities[1] = 0.75, 0.25
    answered = Digits().postprocess({"probabilities": probabilities})
    assert answered == {"digit": 7, "score": 0.75, "scores": [0, 0.25, 0, 0, 0, 0, 0, 0.75, 0, 0]}
    assert type(answered["digit"]) is int and type(answered["score"]) is float
    assert {type(score) for score in answered["scores"]} == {float}
    assert json.loads(json.dumps(answered)) == answered


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("digit-*")), ids=lambda path: path.name)
def test_sample_pictures_are_read_rightly(path: Path, answer: Answer) -> None:
    assert answer(path.read_bytes())["digit"] == int(path.stem.removeprefix("digit-"))


def test_there_is_a_sample_picture_for_every_digit() -> None:
    assert sorted(path.stem for path in (ROOT / "examples").glob("digit-*")) == [f"digit-{n}" for n in range(10)]


# --- framing ----------------------------------------------------------------------------------------------------------


def test_polarity_place_and_size_do_not_matter() -> None:
    reference = prepared(file(seven(120)))
    elsewhere = Image.new("RGB", (400, 300), "white")
    elsewhere.paste(seven(120), (250, 20))
    for picture in (seven(120, "white", "black"), seven(360), elsewhere):
        assert np.abs(prepared(file(picture)) - reference).mean() < 0.03


def test_a_one_stays_narrow_and_comes_to_the_middle() -> None:
    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).line([(30, 40), (30, 160)], fill=0, width=14)
    inked = prepared(file(picture))[0] > 0.5
    columns, rows = np.flatnonzero(inked.any(axis=0)), np.flatnonzero(inked.any(axis=1))
    assert columns.size <= 4 and rows.size >= 20
    assert abs(float(columns.mean()) - (SIDE - 1) / 2) < 1


def test_specks_do_not_widen_the_digit() -> None:
    speckled = seven(100)
    for place in ((3, 3), (96, 5), (4, 95), (97, 97), (90, 50)):
        speckled.putpixel(place, (0, 0, 0))
    assert np.abs(prepared(file(speckled)) - prepared(file(seven(100)))).mean() < 0.01


def test_a_list_and_its_picture_give_nearly_the_same_input() -> None:
    cells = np.array(EXAMPLE, dtype=np.float32).reshape(8, 8) * (255 / 16)
    for kind, size, inverted in (("PNG", 64, False), ("PNG", 320, True), ("JPEG", 200, True)):
        grey = 255 - cells if inverted else cells
        picture = Image.fromarray(grey.astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
        assert np.abs(prepared(file(picture, kind)) - prepared(EXAMPLE)).mean() < 0.08


# --- odd pictures -----------------------------------------------------------------------------------------------------


def _clear(ink: tuple[int, int, int]) -> Image.Image:
    """Ink on a transparent ground, as a drawing canvas in a browser saves it."""
    picture = Image.new("RGBA", (120, 120), (*ink, 0))
    picture.paste((*ink, 255), mask=seven(120, "white", "black").convert("L"))
    return picture


def _deep(full: int) -> Image.Image:
    grey = np.asarray(seven(120).convert("L"), dtype=np.float64) / 255
    return Image.fromarray((grey * full).astype(np.uint16))


def _unevenly_lit() -> Image.Image:
    grey = np.asarray(seven(120).convert("L"), dtype=np.float64) / 255 * 100
    return Image.fromarray((grey + np.linspace(0, 150, 120)).astype(np.uint8))


ODD_PICTURES: dict[str, Callable[[], bytes]] = {
    "red on green of the same brightness": lambda: file(seven(120, "#d00000", "#006a00")),
    "black on transparent": lambda: file(_clear((0, 0, 0))),
    "white on transparent": lambda: file(_clear((255, 255, 255))),
    "grey with alpha": lambda: file(_clear((0, 0, 0)).convert("LA")),
    "opaque RGBA": lambda: file(seven().convert("RGBA")),
    "palette": lambda: file(seven().convert("P")),
    "palette with transparency": lambda: file(_clear((0, 0, 0)).quantize(8)),
    "one bit": lambda: file(seven().convert("1")),
    "16 bits": lambda: file(_deep(65535)),
    "12 of 16 bits": lambda: file(_deep(4095)),
    "8 of 16 bits": lambda: file(_deep(255)),
    "CMYK": lambda: file(seven().convert("CMYK"), "JPEG"),
    "grey JPEG": lambda: file(seven().convert("L"), "JPEG", quality=60),
    "progressive": lambda: file(seven(), "JPEG", progressive=True),
    "interlaced": lambda: file(seven(), "PNG", interlace=1),
    "pale": lambda: file(seven(120, "#c8c8c8", "#f0f0f0")),
    "unevenly lit": lambda: file(_unevenly_lit()),
    "large JPEG": lambda: file(seven(3000), "JPEG"),
    "large PNG": lambda: file(seven(2000)),
    "tiny": lambda: file(seven(24)),
    "wide": lambda: file(_on_the_left_of(Image.new("RGB", (1200, 120), "white"))),
}


def _on_the_left_of(paper: Image.Image) -> Image.Image:
    paper.paste(seven(120))
    return paper


@pytest.mark.parametrize("name", ODD_PICTURES)
def test_odd_pictures_are_read(name: str, answer: Answer) -> None:
    assert answer(ODD_PICTURES[name]())["digit"] == 7


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_exif_orientation_is_obeyed(orientation: int, undo: Image.Transpose) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file(seven().transpose(undo), "JPEG", exif=exif, quality=95)
    assert np.abs(prepared(data) - prepared(file(seven()))).mean() < 0.02


@pytest.mark.filterwarnings("ignore")  # Pillow warns of the damage, which is not the point
def test_damaged_exif_data_does_not_matter() -> None:
    data = file(seven(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff broken")
    assert np.abs(prepared(data) - prepared(file(seven()))).mean() < 0.03


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instance", "part"),
    [
        (None, "not null"),
        ("7", 'sent as {"b64"'),
        (True, "not a boolean"),
        (7, "not a number"),
        ({}, "not an empty object"),
        ({"foo": 1}, "unknown input 'foo'"),
        ({"a\nb" * 100: 1}, r"unknown input 'a\nb"),
        ([], "this list has 0 entries"),
        ([0] * 63, "this list has 63 entries"),
        ([[0] * 8] * 8, "this list has 8 entries"),
        ([[0]] * 64, "entry 0 of the list is not a number"),
        ([0] * 63 + [True], "entry 63 of the list is not a number"),
        ([0] * 63 + ["5"], "entry 63 of the list is not a number"),
        ([0, None] * 32, "entry 1 of the list is not a number"),
        ([0] * 63 + [float("nan")], "entry 63 of the list is not in the range"),
        ([float("-inf")] * 64, "entry 0 of the list is not in the range"),
        ([0] * 5 + [-1] * 59, "entry 5 of the list is not in the range"),
        ([16.5] * 64, "entry 0 of the list is not in the range"),
        ([10**400] * 64, "entry 0 of the list is not in the range"),
        ([0] * 64, "blank"),
        ([16] * 64, "blank"),
    ],
)
def test_what_is_no_picture_is_refused(instance: Any, part: str) -> None:
    assert part in refusal(instance)


@pytest.mark.parametrize(
    "data",
    [b"\x00" * 100, b"hello", b"%PDF-1.7", file(seven(), "GIF"), file(seven(), "BMP"), file(seven(), "TIFF")],
    ids=["zeros", "text", "pdf", "gif", "bmp", "tiff"],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    assert refusal(data) == "the bytes are not a PNG or JPEG picture"


def test_no_bytes_are_refused() -> None:
    assert "no bytes" in refusal(b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pictures_cut_off_anywhere_are_refused(kind: str) -> None:
    data = file(seven(64), kind)
    for length in range(1, len(data)):
        assert refusal(data[:length])


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.filterwarnings("default")
def test_damage_anywhere_never_ends_in_a_trace(kind: str) -> None:
    rng = np.random.default_rng(3)
    whole = file(seven(64), kind)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=3):
            damaged[place] = int(rng.integers(256))
        try:
            prepared(bytes(damaged))
        except InstanceError:
            continue


def _png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG file with any header."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (10_000, 10_000), (5001, 5000), (2**31 - 1, 1)])
def test_decompression_bombs_are_refused_from_their_header(width: int, height: int) -> None:
    data = _png(width, height, b"\x00" * 1000)
    tracemalloc.start()
    began = time.perf_counter()
    sentence = refusal(data)
    spent = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "at most 25 megapixels" in sentence
    assert spent < 0.1
    assert peak < 2_000_000


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 10), (10, 0)])
def test_pictures_without_area_are_refused(width: int, height: int) -> None:
    assert refusal(_png(width, height))


BLANK = {
    "white": Image.new("L", (100, 100), 255),
    "navy": Image.new("RGB", (64, 48), "navy"),
    "transparent": Image.new("RGBA", (50, 50), (0, 0, 0, 0)),
    "one pixel": Image.new("L", (1, 1), 0),
    "16 bits": Image.new("I;16", (20, 20), 0),
    "gradient": Image.linear_gradient("L"),
    "too pale": seven(100, "#fafafa", "#ffffff"),
}
JPEG_HAS = {name for name, picture in BLANK.items() if picture.mode in ("L", "RGB")}


@pytest.mark.parametrize(("name", "kind"), [(n, "PNG") for n in BLANK] + [(n, "JPEG") for n in sorted(JPEG_HAS)])
def test_blank_pictures_are_refused(name: str, kind: str) -> None:
    assert "blank" in refusal(file(BLANK[name], kind))


def test_sentences_do_not_repeat_the_payload() -> None:
    secret = "c2VjcmV0"
    assert secret not in refusal(secret)
    assert secret not in refusal(base64.b64decode(secret) * 10)
    assert secret not in refusal([secret] * 64)


# --- threads ----------------------------------------------------------------------------------------------------------


def test_one_handler_serves_many_threads() -> None:
    handler = Digits()
    instances: list[Any] = [EXAMPLE, file(seven()), file(seven(200), "JPEG")] * 20
    alone = [handler.preprocess(instance)["X"] for instance in instances]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda instance: handler.preprocess(instance)["X"], instances))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
