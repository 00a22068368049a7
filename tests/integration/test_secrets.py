"""What is nobody else's business: nothing of a request in the log, and no shared memory that others can read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from chaos.stack import SERVICE
from tests.integration.stack import SHM, Stack, descendants, running, wait_for

pytestmark = pytest.mark.triton

JSON = {
    "Content-Type": "application/json",
    "Authorization": "Bearer a-secret",
    "Cookie": "a-secret",
    "X-Key": "a-secret",
}
#: Bodies with a secret at every place that an error may speak of; the last one is right.
BODIES = [
    '{"instances": [["a-secret"]]}',
    '{"instances": ["a-secret"]}',
    '{"instances": [{"a-secret": 1}]}',
    '{"instances": [[1.0], ["a-secret"]]}',
    '{"instances": [{"b64": "a-secret"}]}',
    '{"instances": "a-secret"}',
    '{"a-secret": []}',
    "a-secret",
    '{"instances": [[1.0]], "parameters": "a-secret"}',
    '{"instances": [[1.0]], "parameters": {"top_k": "a-secret"}}',
    '{"inputs": {"a-secret": [[1.0]]}}',
    '{"instances": [[1.0]], "parameters": {"a-secret": 1}}',
]
PATHS = ["/predict", "/predict?key=a-secret", "/v1/models/triple:predict?key=a-secret", "/nowhere?key=a-secret"]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with running(tmp_path / "log", service=SERVICE) as stack:
        stack.until(200)
        yield stack


def post(url: str, body: str) -> int:
    return requests.post(url, body, headers=JSON, timeout=10).status_code


def test_nothing_of_a_request_is_in_the_log(stack: Stack) -> None:
    statuses = set()
    for path in PATHS:
        for body in BODIES:
            statuses.add(post(stack.url + path, body))
    infer = '{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": ["a-secret"]}]}'
    statuses.add(
        requests.post(f"{stack.url}/v2/models/triple/infer?a-secret", infer, headers=JSON, timeout=10).status_code
    )
    assert statuses == {200, 400, 404}
    assert stack.output().count('"status":400') > 20
    assert "a-secret" not in stack.output()


def test_shared_memory_is_its_owners_alone(stack: Stack) -> None:
    assert post(f"{stack.url}/predict", BODIES[-1]) == 200

    def are_hidden() -> bool:  # in the moment after Triton is ready
        found = mapped(stack)
        return len(found) > 1 and all(path.stat().st_mode & 0o777 == 0o600 for path in found)

    wait_for(are_hidden, 5, lambda: str({path: oct(path.stat().st_mode) for path in mapped(stack)}))


def mapped(stack: Stack) -> set[Path]:
    """The files in shared memory that the stack's processes have open."""
    lines = [
        line for pid in descendants(stack.process.pid) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
    ]
    return {Path(line.split(maxsplit=5)[5]) for line in lines if f"{SHM}/" in line and "(deleted)" not in line}
