"""Contract, item 9: Triton's generate and generate_stream, event by event as the model makes them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.contract.container import Processes
from tests.contract.target import Answer, Target, read, refused
from tests.integration.stack import wait_for

pytestmark = pytest.mark.triton

STREAM = "text/event-stream"
PATH = "/v2/models/counting/generate_stream"
#: Seconds between two events.
PAUSE = 0.4


@dataclass
class Stream:
    """An answer of events, read as it comes.

    Attributes:
        status: of its head.
        headers: names in lower case.
        events: what stood behind `data: `, as JSON.
        times: when each event was there.
        content: all bytes of the body.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    content: bytes = b""


def request(path: str, body: Any, **headers: str) -> bytes:
    """The bytes of a request for JSON or for whatever its headers say."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def head(connection: socket.socket) -> tuple[Stream, bytes]:
    """Reads up to the end of the head; gives what came behind it as well."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        assert more, f"closed after {received!r}"
        received += more
    text, _, rest = received.partition(b"\r\n\r\n")
    lines = text.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Stream(int(lines[0].split()[1]), headers), rest


def chunks(connection: socket.socket, rest: bytes) -> Iterator[bytes]:
    """The chunks of a body, each as soon as it is there."""
    while True:
        while b"\r\n" not in rest:
            more = connection.recv(65536)
            assert more, "closed within the body"
            rest += more
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        while len(rest) < length + 2:
            more = connection.recv(65536)
            assert more, "closed within the body"
            rest += more
        if length == 0:
            return
        yield rest[:length]
        rest = rest[length + 2 :]


def stream(target: Target, path: str, body: Any, **headers: str) -> Stream:
    """Sends a request and reads all events of its answer."""
    with target.connect(30) as connection:
        connection.sendall(request(path, body, **headers))
        made, rest = head(connection)
        assert made.headers.get("transfer-encoding") == "chunked", made
        pending = b""
        for chunk in chunks(connection, rest):
            made.content += chunk
            pending += chunk
            while b"\n\n" in pending:
                event, _, pending = pending.partition(b"\n\n")
                assert event.startswith(b"data: "), event
                made.events.append(json.loads(event[6:]))
                made.times.append(time.monotonic())
        assert pending == b""
    return made


def numbers(events: list[Any]) -> list[Any]:
    return [event.get("N") for event in events]


# Triton's own paths


@pytest.mark.parametrize("path", [PATH, "/v2/models/counting/versions/1/generate_stream"])
def test_each_event_comes_when_it_is_made(target: Target, path: str) -> None:
    """The first one long before the last one exists."""
    made = stream(target, path, {"COUNT": 5, "PAUSE": PAUSE})
    assert (made.status, made.headers["content-type"].partition(";")[0]) == (200, STREAM)
    assert numbers(made.events) == [0, 1, 2, 3, 4]
    gaps = [later - earlier for earlier, later in zip(made.times, made.times[1:], strict=False)]
    assert min(gaps) > PAUSE / 2
    assert made.times[-1] - made.times[0] > 3 * PAUSE


def test_the_bytes_are_tritons(container: Processes) -> None:
    body = {"COUNT": 3, "id": "42"}
    ours, tritons = stream(container.target(), PATH, body), stream(container.triton(), PATH, body)
    assert ours.content == tritons.content
    assert ours.headers["content-type"] == tritons.headers["content-type"]


def test_text_in_text_out(target: Target) -> None:
    made = stream(target, "/v2/models/talking/generate_stream", {"text_input": "one two three"})
    assert [event["text_output"] for event in made.events] == ["one", "two", "three"]
    assert {(event["model_name"], event["model_version"]) for event in made.events} == {("talking", "1")}
    assert made.times[-1] - made.times[0] > 0.2


def test_a_model_with_one_answer_streams_one_event(target: Target) -> None:
    made = stream(target, "/v2/models/greeting/generate_stream", {"text_input": "you"})
    assert [event["text_output"] for event in made.events] == ["hello you"]


def test_no_answer_at_all_is_an_empty_stream(target: Target) -> None:
    made = stream(target, PATH, {"COUNT": 0})
    assert (made.status, made.events) == (200, [])


def test_many_events_are_all_there_in_their_order(target: Target) -> None:
    assert numbers(stream(target, PATH, {"COUNT": 2000}).events) == list(range(2000))


def test_an_error_in_the_middle_is_an_event(target: Target) -> None:
    made = stream(target, PATH, {"COUNT": 5, "PAUSE": 0.05, "FAIL_AFTER": 2})
    assert made.status == 200
    assert numbers(made.events[:2]) == [0, 1]
    assert made.events[2:] == [{"error": "failed after 2"}]


def test_an_error_at_the_beginning_decides_the_status(target: Target) -> None:
    """Triton sends it as an event with that status; as JSON, or as an event, it is the one error body."""
    answer = target.post(PATH, {"COUNT": 5, "FAIL_AFTER": 0})
    assert answer.status == 400
    assert answer.media_type in ("application/json", STREAM)
    assert json.loads(answer.body.removeprefix(b"data: ")) == {"error": "failed after 0"}


def test_streams_side_by_side(target: Target) -> None:
    """One that is slow holds up no other."""
    with closing(target.connect(30)) as slow:
        slow.sendall(request(PATH, {"COUNT": 4, "PAUSE": 0.5}))
        begin = time.monotonic()
        assert numbers(stream(target, PATH, {"COUNT": 3}).events) == [0, 1, 2]
        assert time.monotonic() - begin < 1.4
        made, rest = head(slow)
        assert made.status == 200
        assert b'"N":3' in b"".join(chunks(slow, rest))


@pytest.mark.parametrize("leaving", ["closes", "resets"])
def test_the_model_gets_to_know_of_a_caller_who_leaves(target: Target, leaving: str) -> None:
    before = left(target)
    with target.connect(30) as connection:
        connection.sendall(request(PATH, {"COUNT": 200, "PAUSE": 0.2}))
        made, _ = head(connection)
        assert made.status == 200
        if leaving == "resets":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wait_for(lambda: left(target) == before + 1, 10)
    assert target.health() == 200


def left(target: Target) -> int:
    """How many callers of the counting model have left before its end, by its own count."""
    (event,) = stream(target, PATH, {"COUNT": -1}).events
    return int(event["N"])


def test_a_connection_can_be_used_again_after_a_stream(target: Target) -> None:
    with target.connect(30) as connection:
        for _ in range(2):
            connection.sendall(request(PATH, {"COUNT": 2}))
            made, rest = head(connection)
            assert made.status == 200
            assert b"".join(chunks(connection, rest)).count(b"data: ") == 2
        connection.sendall(request(target.predict_route, {"instances": [[1.0]]}))
        assert read(connection).json() == {"predictions": [[1.0]]}


def test_to_http_1_0_the_events_come_without_chunks(target: Target) -> None:
    body = b'{"COUNT": 2}'
    sent = f"POST {PATH} HTTP/1.0\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    answer = target.raw(sent)
    assert answer.status == 200
    assert answer.header("Transfer-Encoding") is None
    assert answer.body.count(b"data: ") == 2


@pytest.mark.parametrize("path", ["/v2/models/greeting/generate", "/v2/models/greeting/versions/1/generate"])
def test_generate(target: Target, path: str) -> None:
    answer = target.post(path, {"text_input": "you", "id": "42", "parameters": {"temperature": 0.5}})
    assert (answer.status, answer.media_type) == (200, "application/json")
    document = answer.json()
    assert (document["text_output"], document["model_name"], document["id"]) == ("hello you", "greeting", "42")


def test_generate_of_a_model_with_many_answers(target: Target) -> None:
    """One is right, more are an error, which Triton 2.51 sends with status 200; an error has the status of one."""
    assert target.post("/v2/models/talking/generate", {"text_input": "one"}).json()["text_output"] == "one"
    answer = target.post("/v2/models/talking/generate", {"text_input": "one two"})
    refused(answer, 400, 500, 501, 502)


BAD: dict[str, tuple[str, bytes, int]] = {
    "unknown model": ("/v2/models/nothing/{verb}", b'{"text_input": "a"}', 404),
    "unknown version": ("/v2/models/greeting/versions/7/{verb}", b'{"text_input": "a"}', 404),
    "no JSON": ("/v2/models/greeting/{verb}", b"{", 400),
    "a list": ("/v2/models/greeting/{verb}", b"[]", 400),
    "no input": ("/v2/models/greeting/{verb}", b"{}", 400),
    "a number for text": ("/v2/models/greeting/{verb}", b'{"text_input": 1}', 400),
    "text for a number": ("/v2/models/counting/{verb}", b'{"COUNT": "one"}', 400),
    "an object for a number": ("/v2/models/counting/{verb}", b'{"COUNT": {}}', 400),
    "empty": ("/v2/models/greeting/{verb}", b"", 400),
}


@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
@pytest.mark.parametrize(("path", "body", "status"), BAD.values(), ids=BAD.keys())
def test_what_fails_before_the_model_is_plain_json(
    target: Target, path: str, body: bytes, status: int, verb: str
) -> None:
    """Triton calls a body that it cannot read an internal error, 500; it is the caller's."""
    refused(target.post(path.format(verb=verb), body), status)


# streamRawPredict: the predict route, whose Accept asks for events


def asked(target: Target, body: Any) -> Stream:
    return stream(target, target.predict_route, body, Accept=STREAM)


def test_an_instance_is_answered_by_events(target: Target) -> None:
    made = asked(target, {"instances": [{"COUNT": 4, "PAUSE": PAUSE}], "parameters": {"model": "counting"}})
    assert (made.status, made.headers["content-type"].partition(";")[0]) == (200, STREAM)
    assert numbers(made.events) == [0, 1, 2, 3]
    assert made.times[-1] - made.times[0] > 2 * PAUSE


def test_a_bare_instance_is_answered_by_events(target: Target) -> None:
    made = asked(target, {"instances": ["one two"], "parameters": {"model": "talking"}})
    assert [event["text_output"] for event in made.events] == ["one", "two"]


def test_tritons_generate_form_is_answered_by_events(target: Target) -> None:
    made = asked(target, {"text_input": "one two three", "parameters": {"model": "talking"}})
    assert [event["text_output"] for event in made.events] == ["one", "two", "three"]


def test_events_by_the_path_of_a_model(target: Target) -> None:
    body = {"instances": [{"COUNT": 2}]}
    made = stream(target, "/v1/models/counting:predict", body, Accept=STREAM)
    assert numbers(made.events) == [0, 1]


def test_a_model_without_events_gives_one(target: Target) -> None:
    made = asked(target, {"instances": [[0.5, 2]]})
    assert made.status == 200
    assert len(made.events) == 1
    assert "[0.5,2.0]" in made.content.decode().replace(" ", "")


def test_an_error_in_the_middle_is_an_event_here_too(target: Target) -> None:
    body = {"instances": [{"COUNT": 3, "FAIL_AFTER": 1}], "parameters": {"model": "counting"}}
    made = asked(target, body)
    assert numbers(made.events[:1]) == [0]
    assert made.events[1:] == [{"error": "failed after 1"}]


@pytest.mark.parametrize(
    "accept", ["text/event-stream;q=0.9", "text/event-stream, application/json", "Text/Event-Stream"]
)
def test_ways_to_ask_for_events(target: Target, accept: str) -> None:
    body = {"instances": [{"COUNT": 2}], "parameters": {"model": "counting"}}
    made = stream(target, target.predict_route, body, Accept=accept)
    assert numbers(made.events) == [0, 1]


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/*;q=0, */*"])
def test_whoever_takes_anything_gets_json(target: Target, accept: str) -> None:
    answer = target.predict(b'{"instances": [[1.0]]}', Accept=accept)
    assert (answer.status, answer.json()) == (200, {"predictions": [[1.0]]})


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"instances": [{"COUNT": 1}, {"COUNT": 1}], "parameters": {"model": "counting"}}, 400),
        ({"instances": [], "parameters": {"model": "counting"}}, 400),
        ({"instances": [{"COUNT": 1}], "parameters": {"model": "nothing"}}, 400),
        ({"instances": [{"Z": 1}], "parameters": {"model": "counting"}}, 400),
        ({"instances": [{"COUNT": "one"}], "parameters": {"model": "counting"}}, 400),
        ({"text_input": "one", "parameters": {"model": "nothing"}}, 400),
    ],
)
def test_what_cannot_be_streamed_is_refused_in_json(target: Target, document: dict[str, Any], status: int) -> None:
    answer: Answer = target.post(target.predict_route, document, {"Accept": STREAM})
    refused(answer, status)


# Without events


def test_a_prediction_of_a_model_with_any_number_of_answers_is_their_list(target: Target) -> None:
    counts = [3, 0, 1]
    made = target.predictions([{"COUNT": count} for count in counts], "counting")
    assert made == [list(range(count)) for count in counts]
    assert target.predictions(["one two"], "talking") == [["one", "two"]]


def test_a_prediction_of_which_an_answer_fails_is_an_error(target: Target) -> None:
    """Of Triton's, not a bug of the listener's (500)."""
    instances = [{"COUNT": 1}, {"COUNT": 3, "FAIL_AFTER": 1}]
    answer = target.predict({"instances": instances, "parameters": {"model": "counting"}})
    assert "failed after 1" in refused(answer, 400, 502) or answer.status == 502
