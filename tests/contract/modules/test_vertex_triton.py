"""What Triton's own Vertex frontend understands: docs/reference/contract.md, "rawPredict"."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.contract import vertex_triton
from listener.errors import BadRequest, Forbidden, WrongMethod

MEDIA = "application/vnd.vertex-ai-triton.binary+json;json-header-size="


@pytest.mark.parametrize("content_type", [f"{MEDIA}5", f"x{MEDIA}", MEDIA.upper(), MEDIA.partition(";")[0]])
def test_the_media_type_is_meant_wherever_it_stands(content_type: str) -> None:
    assert vertex_triton.is_meant(content_type)


@pytest.mark.parametrize("content_type", ["", "application/json", "application/vnd.vertex-ai-triton.binary"])
def test_other_media_types_are_not(content_type: str) -> None:
    assert not vertex_triton.is_meant(content_type)


@pytest.mark.parametrize("rest", ["5", "-1", "", "x", " 5", "5; charset=utf-8"])
def test_the_number_is_what_follows(rest: str) -> None:
    """It is checked elsewhere, together with the other way to say it."""
    assert vertex_triton.header_size(MEDIA + rest) == rest


@pytest.mark.parametrize(
    "content_type", [f" {MEDIA}5", MEDIA.upper(), MEDIA[:-1], MEDIA.replace(";", "; ") + "5", f"text/plain;{MEDIA}5"]
)
def test_the_media_type_must_begin_exactly_so(content_type: str) -> None:
    with pytest.raises(BadRequest, match=r"^the Content-Type has to begin with application/vnd"):
        vertex_triton.header_size(content_type)


GET = [
    "metrics",
    "v2",
    "v2/health/live",
    "v2/health/ready",
    "v2/models/stats",
    *(f"v2/models/m{version}{end}" for version in ("", "/versions/1") for end in ("", "/ready", "/config", "/stats")),
    *(f"v2/{kind}sharedmemory{region}/status" for kind in ("system", "cuda") for region in ("", "/region/r")),
]
POST = ["v2/models/m/infer", "v2/models/m/versions/12/infer", "v2/repository/index"]
FORBIDDEN = [
    *(
        f"v2/{kind}sharedmemory{region}/{verb}"
        for kind in ("system", "cuda")
        for region in ("", "/region/r")
        for verb in ("register", "unregister")
    ),
    *(f"v2/repository{of}/models/m/{verb}" for of in ("", "/r") for verb in ("load", "unload")),
]
OTHER = [
    "",
    "/v2",
    "v2/",
    "V2",
    "v1/models",
    "v2/health",
    "v2/health/dead",
    "v2/models",
    "v2/models/",
    "v2/models/m/",
    "v2/models//infer",
    "v2/models/m/generate",
    "v2/models/m/generate_stream",
    "v2/models/m/versions/x/infer",
    "v2/models/m/versions/1/infer/",
    "v2/models/m/trace/setting",
    "v2/models/m/infer?x=y",
    "v2/models/a/b/infer",
    "v2/trace/setting",
    "v2/logging",
    "v2/repository/index/",
    "v2/repository/models/m/reload",
    "v2/../v2",
    "metrics\n",
    "x metrics",
    "v2\udcff",
]


@pytest.mark.parametrize("target", GET)
def test_what_reads_is_a_get(target: str) -> None:
    assert vertex_triton.redirected("POST", target) == ("GET", f"/{target}")


@pytest.mark.parametrize("target", POST)
def test_what_infers_is_a_post(target: str) -> None:
    assert vertex_triton.redirected("POST", target) == ("POST", f"/{target}")


@pytest.mark.parametrize("target", FORBIDDEN)
def test_what_changes_triton_is_forbidden(target: str) -> None:
    with pytest.raises(Forbidden, match=r"is not served$"):
        vertex_triton.redirected("POST", target)


@pytest.mark.parametrize("target", OTHER)
def test_anything_else_is_the_callers_fault(target: str) -> None:
    with pytest.raises(BadRequest, match=r"^x-vertex-ai-triton-redirect: .* is not served$"):
        vertex_triton.redirected("POST", target)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "post"])
@pytest.mark.parametrize("target", ["v2", "nonsense", FORBIDDEN[0]])
def test_with_another_method_than_post_the_header_is_405(method: str, target: str) -> None:
    with pytest.raises(WrongMethod):
        vertex_triton.redirected(method, target)


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("a b", "a%20b"), ("a%2Fb", "a%252Fb"), ("ä", "%C3%A4"), ("a?b#c", "a%3Fb%23c"), ("\udcff", "%FF"), ("..", "..")],
)
def test_a_name_is_written_anew_and_means_the_same(name: str, quoted: str) -> None:
    """Whatever it is made of: blanks, percent signs, bytes that are no text."""
    path = vertex_triton.redirected("POST", f"v2/models/{name}/versions/3/infer").path
    assert path == f"/v2/models/{quoted}/versions/3/infer"
    assert vertex_triton.model_of(path) == (name, "3")
    assert vertex_triton.model_of(vertex_triton.redirected("POST", f"v2/models/{name}/infer").path) == (name, "")


@given(st.text(st.characters(codec="utf-8") | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF), max_size=30))
def test_a_path_for_triton_is_plain(target: str) -> None:
    """Nothing that is passed on can end the request line, or begin a query."""
    for said in (target, f"v2/models/{target}/infer", f"v2/models/{target}"):
        try:
            path = vertex_triton.redirected("POST", said).path
        except BadRequest:
            continue
        assert path.isascii()
        assert path.isprintable()
        assert set(" ?#").isdisjoint(path)
        assert path.count("/") == said.count("/") + 1
