from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from listener.tools import pbtxt

TEXT = """\
# name: "comment"
name: "a # no comment" 'and more'
input [
  { name: "X" dims: [ -1,
    2 ] }, {
    name: "Y" }
]
input < name: "Z"; dims: 1.5e-3 dims: -4 >
parameters: { key: "k" value: { string_value: "{" } }
max_batch_size: 8
"""


def test_every_field_has_its_line() -> None:
    found = pbtxt.lines(TEXT)
    assert found["name",] == 2
    assert found["input",] == 3
    assert found["input", 0, "dims"] == 4
    assert found["input", 0, "dims", 1] == 5
    assert found["input", 1, "name"] == 6
    assert found["input", 2, "dims", 1] == 8
    assert found["parameters", 0, "value", 0, "string_value"] == 9
    assert found["max_batch_size",] == 10


@given(st.text(alphabet="ab1:{}[]<>,;\"'#- \n\\", max_size=60))
def test_never_raises(text: str) -> None:
    assert all(line >= 1 for line in pbtxt.lines(text).values())
