"""Asks a service from tests that are plain functions: a fake Triton and the listener on a loop in another thread."""

from __future__ import annotations

import asyncio
import base64
import http.client
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import orjson

from listener.testing.fake import FakeTriton
from listener.testing.modules import Modules
from listener.testing.serving import prepared, serving

#: Seconds to wait for an answer, more than the listener itself gives a request.
_PATIENCE = 120.0


class Refused(Exception):
    """An answer other than 200.

    Attributes:
        status: such as 400.
        error: its sentence, such as `instances[0]: an instance is a list of 64 numbers`.
    """

    def __init__(self, status: int, error: str) -> None:
        super().__init__(f"{status}: {error}")
        self.status, self.error = status, error


class Client:
    """Sends requests to a service, over a real loopback port. It starts at the first request; `close` stops it.

    Args:
        service: the folder with listener.yaml.
        triton: what has the models. It need not run; it starts with the service.
        **overrides: settings by field name, such as `max_body=1024`.
    """

    def __init__(self, service: Path, triton: FakeTriton, **overrides: Any) -> None:
        self._service, self._triton, self._overrides = service, triton, overrides
        self._running: _Running | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def predict(
        self, instances: Any, parameters: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> list[Any]:
        """The predictions of some instances, in order.

        Args:
            instances: a list of whatever JSON can say; `bytes` in it are sent as `{"b64": ...}`, arrays as lists.
            parameters: of the request; None = none.
            headers: more of them.

        Raises:
            Refused: the answer is not 200.
            ConfigError, NotReady: as of `post`.
        """
        body = {"instances": instances} if parameters is None else {"instances": instances, "parameters": parameters}
        status, document = self.post(body, headers)
        if status != 200:
            raise Refused(status, document["error"] if isinstance(document, dict) else str(document))
        found: list[Any] = document["predictions"]
        return found

    def post(self, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Status and body of one request to the predict route.

        Args:
            body: bytes and text are sent as they are, anything else as JSON.
            headers: more of them; the content type is application/json if they name none.

        Returns:
            The status, and the JSON of the answer; where it is no JSON, its bytes.

        Raises:
            ConfigError: the service cannot be loaded; with a sentence for each mistake.
            NotReady: a TimeoutError: it does not become ready; with what is missing, or why its warm-up failed.
        """
        sent = body if isinstance(body, bytes | str) else orjson.dumps(body, _in_json, orjson.OPT_SERIALIZE_NUMPY)
        running = self._started()
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=_PATIENCE)
        try:
            connection.request("POST", running.route, sent, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, orjson.loads(content)
        except orjson.JSONDecodeError:
            return answer.status, content

    def close(self) -> None:
        """Stops the service and forgets its modules, so that another one's are not taken for them."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def _started(self) -> _Running:
        if self._running is None:
            self._running = _Running(self._service, self._triton, self._overrides)
        return self._running


class _Running:
    """The fake Triton and the listener on a loop of their own; made when they are ready.

    Raises:
        ConfigError, NotReady: they do not get ready; nothing runs any more then.
    """

    def __init__(self, service: Path, triton: FakeTriton, overrides: Mapping[str, Any]) -> None:
        self._modules = Modules(service)
        self._ready: Future[tuple[int, str]] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(service, triton, overrides)), name="listener.testing", daemon=True
        )
        self._thread.start()
        try:
            self.port, self.route = self._ready.result()
        except BaseException:
            self._end()
            raise

    async def _serve(self, service: Path, triton: FakeTriton, overrides: Mapping[str, Any]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with triton.running() as triton_url, serving(service, triton_url, **overrides) as (listener, url):
                await prepared(listener)
                self._ready.set_result((int(url.rpartition(":")[2]), listener.settings.predict_route))
                await self._stop.wait()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._end()

    def _end(self) -> None:
        self._thread.join()
        self._modules.close()


def _in_json(value: object) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    raise TypeError
