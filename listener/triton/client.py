"""The connection to Triton: readiness and configuration through tritonclient, inference over one HTTP session.

tritonclient encodes and decodes the tensors (OIP v2 with its binary extension); the bytes travel over our own aiohttp
session, whose statuses and failures are turned into this package's errors in one place.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import orjson
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient as Codec
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from listener.call import Arrays
from listener.errors import BadRequest, DeadlineExceeded, ListenerError, TritonFailed, Unavailable
from listener.tensors import ModelSpec

_HEADER_LENGTH = "Inference-Header-Content-Length"
#: To Triton, which serves them with a few threads; further calls wait for one.
_CONNECTIONS = 256
#: No answer, or none of Triton's; ValueError: not JSON.
_SILENT = (InferenceServerException, aiohttp.ClientError, TimeoutError, OSError, ValueError)
_CONTROL_TIMEOUT = 2.0  # seconds for a readiness or configuration call


class TritonClient:
    """One Triton, as one event loop talks to it. Use `open` and `close` on that loop.

    Args:
        url: `http://host:port`.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._control: Any = None

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=30)
        # aiohttp would ask for gzip, and Triton would spend its time on it
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None),  # each call has its own
        )
        self._control = InferenceServerClient(urllib.parse.urlsplit(self._url).netloc, conn_timeout=_CONTROL_TIMEOUT)

    async def close(self) -> None:
        """Closes every connection: Triton waits its whole exit timeout for open ones."""
        if self._session:
            await self._session.close()
        if self._control:
            await self._control.close()

    async def server_ready(self) -> bool:
        """Whether Triton answers and says that it is ready; never raises."""
        return await self._ask(self._control.is_server_ready())

    async def model_ready(self, name: str) -> bool:
        """Whether some version of the model can be called; never raises."""
        return await self._ask(self._control.is_model_ready(name))

    async def has_model(self, name: str) -> bool:
        """Whether the model is in Triton's repository, in whatever state; True as well if Triton does not say."""
        try:
            async with asyncio.timeout(_CONTROL_TIMEOUT):
                index = await self._control.get_model_repository_index()
        except _SILENT:
            return True
        return any(entry["name"] == name for entry in index)

    async def spec(self, name: str) -> ModelSpec:
        """The model's tensors and batch size.

        Raises:
            Unavailable: Triton does not answer, or does not have the model ready.
        """
        try:
            return ModelSpec.from_config(await self._control.get_model_config(name))
        except (*_SILENT, KeyError, TypeError) as error:
            raise Unavailable(f"the configuration of model {name!r} cannot be read from Triton") from error

    async def infer(self, spec: ModelSpec, arrays: Arrays, timeout: float) -> dict[str, NDArray[Any]]:
        """One inference call.

        Args:
            spec: of the model.
            arrays: its inputs, batch dimension included where it batches.
            timeout: seconds.

        Returns:
            All outputs by name. BYTES come as object arrays of `bytes`.

        Raises:
            BadRequest: Triton finds fault with the request.
            Unavailable: Triton cannot be reached, went away, or has the model not ready.
            TritonFailed: Triton answered 5xx or rubbish.
            DeadlineExceeded: no answer in time.
        """
        body, header_length = _encode(arrays, [output.name for output in spec.outputs])
        headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(header_length)}
        path = f"{self._url}/v2/models/{urllib.parse.quote(spec.name, safe='')}/infer"
        status, reply_headers, reply = await self._post(path, body, headers, timeout)
        if status in (400, 404) and not await self.model_ready(spec.name):
            raise Unavailable(f"model {spec.name!r} is not ready")  # Triton makes that the caller's fault
        if status != 200:
            raise _refusal(spec.name, status, reply)
        return _decode(spec.name, reply, reply_headers.get(_HEADER_LENGTH))

    async def _post(
        self, url: str, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            raise Unavailable("Triton is not connected")
        try:
            async with (
                asyncio.timeout(timeout),
                self._session.post(url, data=body, headers=headers) as response,
            ):
                return response.status, response.headers, await response.read()
        except TimeoutError:
            raise DeadlineExceeded("Triton did not answer within the request's time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable("Triton cannot be reached") from error

    async def _ask(self, question: Any) -> bool:
        try:
            async with asyncio.timeout(_CONTROL_TIMEOUT):
                return bool(await question)
        except _SILENT:
            return False


def _encode(arrays: Arrays, outputs: Sequence[str]) -> tuple[bytes, int]:
    inputs = []
    for name, array in arrays.items():
        tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=True)
        inputs.append(tensor)
    wanted = [InferRequestedOutput(name, binary_data=True) for name in outputs]
    body, header_length = Codec.generate_request_body(inputs, outputs=wanted)
    return bytes(body), len(body) if header_length is None else int(header_length)


def _decode(model: str, body: bytes, header_length: str | None) -> dict[str, NDArray[Any]]:
    try:
        length = None if header_length is None else int(header_length)
        result = Codec.parse_response_body(body, header_length=length)
        outputs = {}
        for output in result.get_response()["outputs"]:
            array = result.as_numpy(output["name"])
            if array is None:
                raise ValueError(f"output {output['name']!r} has no data")
            outputs[str(output["name"])] = array
        return outputs
    except Exception as error:  # whatever the decoder makes of rubbish, the answer was none
        raise TritonFailed(f"Triton's answer of model {model!r} cannot be read") from error


def _refusal(model: str, status: int, body: bytes) -> ListenerError:
    """Triton's own 4xx is about the caller's tensors; what it says of itself stays inside."""
    try:
        text = str(orjson.loads(body)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        text = f"HTTP {status}"
    if status == 503:
        return _noted(Unavailable(f"model {model!r} cannot take the request now"), text)
    if status >= 500:
        return _noted(TritonFailed(f"model {model!r} failed in Triton"), text)
    return BadRequest(f"model {model!r}: {text}")


def _noted(error: ListenerError, text: str) -> ListenerError:
    """With what Triton said, for the log alone."""
    error.add_note(text)
    return error
