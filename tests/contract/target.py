"""What the suite talks to: an address with two routes, and clients that show the bytes."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: Seconds to wait for an answer.
PATIENCE = 60.0


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        headers: in the order of their arrival.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value, whatever the case of its name; None if there is none.

        Raises:
            AssertionError: it came more than once.
        """
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, values
        return values[0] if values else None

    def json(self) -> Any:
        """The body as strict JSON, which has no NaN and no Infinity."""
        return json.loads(self.body, parse_constant=_refuse)

    @property
    def media_type(self) -> str:
        return (self.header("Content-Type") or "").partition(";")[0]


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


@dataclass(frozen=True)
class Target:
    """A listener, in whatever container."""

    host: str
    port: int
    predict_route: str
    health_route: str

    def connect(self, patience: float = PATIENCE) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=patience)

    def raw(self, sent: bytes, method: str = "POST", patience: float = PATIENCE) -> Answer:
        """Sends bytes on a connection of their own and reads one answer.

        Args:
            sent: everything, from the request line on.
            method: of the request, which says whether the answer has a body.
            patience: seconds for each read.
        """
        with self.connect(patience) as connection:
            connection.sendall(sent)
            return read(connection, method)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        patience: float = PATIENCE,
    ) -> Answer:
        """One request with exactly these headers beside Host, Content-Length and Connection, its path as it is."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in dict(headers).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return self.raw(head + (body or b""), method, patience)

    def get(self, path: str, headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> Answer:
        return self.request("GET", path, None, headers)

    def post(
        self,
        path: str,
        body: bytes | Any = b"",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        patience: float = PATIENCE,
    ) -> Answer:
        """Bytes as they are, anything else as JSON with its media type."""
        if not isinstance(body, bytes):
            return self.post(path, json.dumps(body).encode(), {"Content-Type": "application/json", **dict(headers)})
        return self.request("POST", path, body, headers, patience)

    def predict(self, body: Any, **headers: str) -> Answer:
        """The predict route; of headers' names `_` is a hyphen."""
        return self.post(self.predict_route, body, {name.replace("_", "-"): v for name, v in headers.items()})

    def predictions(self, instances: list[Any], model: str | None = None, **parameters: Any) -> Any:
        """The predictions for instances.

        Args:
            instances: what to predict.
            model: None leaves it to the default.
            parameters: further ones of the request.

        Raises:
            AssertionError: the answer is not a prediction for each instance.
        """
        chosen = parameters if model is None else {"model": model, **parameters}
        answer = self.predict({"instances": instances, **({"parameters": chosen} if chosen else {})})
        assert answer.status == 200, answer
        assert answer.media_type == "application/json"
        document = answer.json()
        assert list(document) == ["predictions"]
        assert len(document["predictions"]) == len(instances)
        return document["predictions"]

    def health(self) -> int:
        """The status of the health route; 0 where nobody answers."""
        try:
            return self.get(self.health_route).status
        except (OSError, http.client.HTTPException):
            return 0


def read(connection: socket.socket, method: str = "POST") -> Answer:
    """Reads one answer from a connection."""
    response = http.client.HTTPResponse(connection, method=method)
    try:
        response.begin()
        body = response.read()
        return Answer(response.status, tuple(response.getheaders()), body)
    finally:
        response.close()


def refused(answer: Answer, *statuses: int) -> str:
    """Checks that an answer is a refusal in the one shape; gives its sentence.

    `{"error": "<one sentence>"}`: JSON with its media type, one key, one line, and nothing of anybody's insides.
    """
    assert answer.status in statuses, answer
    assert answer.media_type == "application/json", answer
    document = answer.json()
    assert list(document) == ["error"], answer
    sentence = document["error"]
    assert isinstance(sentence, str)
    assert 0 < len(sentence) <= 520
    assert sentence.isprintable(), sentence
    assert not any(word in sentence for word in ("Traceback", ".py(", '.py"', "site-packages")), sentence
    return sentence
