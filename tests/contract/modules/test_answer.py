"""What goes back to a client."""

from __future__ import annotations

import pytest

from listener.contract.answer import Answer


def test_an_answer_is_json_and_fine_unless_it_says_otherwise() -> None:
    assert Answer(b"{}") == (b"{}", 200, "application/json", {})


def test_nobody_can_add_a_header_to_all_answers() -> None:
    with pytest.raises(TypeError):
        Answer(b"").headers["X-Me"] = "1"  # type: ignore[index]
