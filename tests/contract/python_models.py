"""The code of every model of the conformance suite; `models.py` copies it beside each configuration.

Which class works is told by the configuration: `parameters { key: "behaviour" ... }`. It runs inside Triton's Python
backend, with whatever Python that has, and without anything of this project.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb  # type: ignore[import-not-found]

#: How often a model that waits looks whether its caller is still there, in seconds.
LOOK = 0.02


class TritonPythonModel:
    """Hands everything on to the class that the configuration names."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        behaviour = globals()[config["parameters"]["behaviour"]["string_value"]]
        self.execute = behaviour(config, int(args["model_version"])).execute


class PerRequest:
    """A model with one answer for each request; what `answer` raises is Triton's error for that request alone."""

    def __init__(self, config: dict[str, Any], version: int) -> None:
        self.max_batch_size, self.version = int(config["max_batch_size"]), version

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answered(request) for request in requests]

    def _answered(self, request: Any) -> Any:
        try:
            return pb.InferenceResponse([pb.Tensor(*item) for item in self.answer(request).items()])
        except pb.TritonModelException as error:
            return pb.InferenceResponse([], pb.TritonError(str(error)))

    def answer(self, request: Any) -> dict[str, Any]:
        raise NotImplementedError


def given(request: Any, name: str) -> Any:
    """An input as numpy has it; None if it was left out."""
    tensor = pb.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def texts(array: Any) -> list[str]:
    """Every element of a BYTES array, flat, as text."""
    return [item.decode(errors="replace") for item in array.reshape(-1)]


def objects(items: list[bytes], shape: tuple[int, ...]) -> Any:
    """Bytes as an array of objects."""
    made = np.empty(len(items), np.object_)
    made[:] = items
    return made.reshape(shape)


class Identity(PerRequest):
    """Gives back X as Y."""

    def answer(self, request: Any) -> dict[str, Any]:
        return {"Y": given(request, "X")}


class Untouched(PerRequest):
    """Gives back X as Y without numpy, which has no BF16."""

    def execute(self, requests: list[Any]) -> list[Any]:
        tensors = [pb.get_input_tensor_by_name(request, "X") for request in requests]
        return [pb.InferenceResponse([pb.Tensor.from_dlpack("Y", tensor.to_dlpack())]) for tensor in tensors]


class Everything(PerRequest):
    """Gives back each input."""

    def execute(self, requests: list[Any]) -> list[Any]:
        return [pb.InferenceResponse([self._same(tensor) for tensor in request.inputs()]) for request in requests]

    def _same(self, tensor: Any) -> Any:
        name = f"{tensor.name()}_OUT"
        if tensor.name() == "BF16":
            return pb.Tensor.from_dlpack(name, tensor.to_dlpack())
        return pb.Tensor(name, tensor.as_numpy())


class AddSub(PerRequest):
    """A + B and A - B."""

    def answer(self, request: Any) -> dict[str, Any]:
        a, b = given(request, "A"), given(request, "B")
        return {"SUM": a + b, "DIFFERENCE": a - b}


class Sum(PerRequest):
    """The sum over the first dimension that is not the batch."""

    def answer(self, request: Any) -> dict[str, Any]:
        x = given(request, "X")
        return {"Y": x.sum(axis=1 if self.max_batch_size else 0, dtype=x.dtype)}


class Length(PerRequest):
    """How long each row of X is, which tells whether it came padded, and its sum."""

    def answer(self, request: Any) -> dict[str, Any]:
        x = given(request, "X")
        lengths = np.full((len(x), 1), x.shape[1], np.int32)
        return {"LENGTH": lengths, "SUM": x.sum(axis=1, keepdims=True, dtype=x.dtype)}


class Upper(PerRequest):
    """Text in capitals."""

    def answer(self, request: Any) -> dict[str, Any]:
        x = given(request, "X")
        return {"Y": objects([item.upper() for item in x.reshape(-1)], x.shape)}


class Picture(PerRequest):
    """The size of some bytes, and the first four of them, once by a name that says that they are bytes."""

    def answer(self, request: Any) -> dict[str, Any]:
        x = given(request, "X")
        heads = objects([item[:4] for item in x.reshape(-1)], x.shape)
        sizes = np.array([len(item) for item in x.reshape(-1)], np.int32).reshape(x.shape)
        return {"SIZE": sizes, "HEAD": heads, "HEAD_bytes": heads}


class NotFinite(PerRequest):
    """X beside what JSON has no word for."""

    def answer(self, request: Any) -> dict[str, Any]:
        x = given(request, "X")
        return {"Y": np.concatenate([x, *(np.full_like(x, value) for value in (np.nan, np.inf, -np.inf))], axis=1)}


class Optional(PerRequest):
    """A + B, where B is 100 if it was left out."""

    def answer(self, request: Any) -> dict[str, Any]:
        a, b = given(request, "A"), given(request, "B")
        return {"Y": a + (np.float32(100) if b is None else b)}


class Versioned(PerRequest):
    """X times the version."""

    def answer(self, request: Any) -> dict[str, Any]:
        return {"Y": given(request, "X") * np.float32(self.version)}


class Greeting(PerRequest):
    """Text in, text out, by the names that `generate` has for them."""

    def answer(self, request: Any) -> dict[str, Any]:
        x = given(request, "text_input")
        return {"text_output": objects([f"hello {text}".encode() for text in texts(x)], x.shape)}


class Slow(PerRequest):
    """Sleeps X seconds, or until its caller has left; a negative X is the question how many have."""

    left = 0

    def answer(self, request: Any) -> dict[str, Any]:
        x = given(request, "X")
        seconds = float(x.reshape(-1)[0])
        if seconds < 0:
            return {"Y": np.full_like(x, Slow.left)}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if request.is_cancelled():
                Slow.left += 1
                raise pb.TritonModelException("the caller has left")
            time.sleep(LOOK)
        return {"Y": x}


class Failing(PerRequest):
    """Fails as its text says: the name of one of Triton's codes, a blank, the message; `raise` raises it."""

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._failed(texts(given(request, "X"))[0], request) for request in requests]

    @staticmethod
    def _failed(text: str, request: Any) -> Any:
        code, _, message = text.partition(" ")
        if code == "raise":
            raise ValueError(message)
        if code.isupper():
            return pb.InferenceResponse([], pb.TritonError(message, getattr(pb.TritonError, code)))
        return pb.InferenceResponse([pb.Tensor("Y", given(request, "X"))])


class Decoupled:
    """Answers from threads, as often as it likes."""

    #: Callers that gave up before their last answer.
    left = 0

    def __init__(self, config: dict[str, Any], version: int) -> None:
        del config, version  # nothing of them matters

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            threading.Thread(target=self._send, args=(request, request.get_response_sender()), daemon=True).start()

    def _send(self, request: Any, sender: Any) -> None:
        try:
            for name, array in self.answers(request, sender):
                sender.send(pb.InferenceResponse([pb.Tensor(name, array)]))
        except Exception as error:
            sender.send(pb.InferenceResponse([], pb.TritonError(str(error))))
        sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def answers(self, request: Any, sender: Any) -> Any:
        raise NotImplementedError

    def wait(self, seconds: float, sender: Any) -> bool:
        """False if the caller has left meanwhile, which is counted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not sender.is_cancelled():
            time.sleep(LOOK)
        if sender.is_cancelled():
            Decoupled.left += 1
            return False
        return True


class Counting(Decoupled):
    """Counts to COUNT, with PAUSE seconds before each number but the first, and fails after FAIL_AFTER of them.

    A negative COUNT is the question how many callers have left early.
    """

    def answers(self, request: Any, sender: Any) -> Any:
        count, pause, fail_after = (self._number(request, name) for name in ("COUNT", "PAUSE", "FAIL_AFTER"))
        if count < 0:
            yield "N", np.array([self.left], np.int32)
        for n in range(int(count)):
            if n and pause > 0 and not self.wait(pause, sender):
                return
            if n == fail_after:
                raise RuntimeError(f"failed after {n}")
            yield "N", np.array([n], np.int32)

    @staticmethod
    def _number(request: Any, name: str) -> float:
        array = given(request, name)
        return -1.0 if array is None else float(array.reshape(-1)[0])


class Talking(Decoupled):
    """Gives back its text word by word, with 0.2 s before each but the first."""

    def answers(self, request: Any, sender: Any) -> Any:
        for n, word in enumerate(texts(given(request, "text_input"))[0].split()):
            if n and not self.wait(0.2, sender):
                return
            yield "text_output", objects([word.encode()], (1,))
