"""What a user writes: a class that turns instances into tensors and tensors into predictions.

Guide: docs/write-a-handler.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from listener import batches
from listener.apart import Apart, Recipe
from listener.batches import Batch
from listener.call import Arrays, Call, Columns, Json, Reply, Rows
from listener.errors import BadRequest, InstanceError, InstancesFailed, ListenerError
from listener.hooks import PLACES, Hook, Pace, failed, in_thread, is_plain, kind
from listener.pool import Pool
from listener.predictions import prediction, predictions, top_k
from listener.rows import from_instances, plain_output, rows_of
from listener.tensors import ModelSpec, TensorError, fits
from listener.values import from_instance, from_rows


class Model(Protocol):
    """What `self.models["name"]` is. Handlers `await` its `infer` and `infer_rows`; the rest is the listener's."""

    @property
    def spec(self) -> ModelSpec: ...

    async def infer(
        self, arrays: Arrays, *, version: str | int = "", timeout: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Runs the model on a batch of any size N >= 1, which every array has as its leading dimension.

        Several calls at once (`asyncio.gather`) are fine, and may share a call to Triton.

        Args:
            arrays: [N, ...] inputs by name, in the model's dtypes, or those of the same kind.
            version: of the model, a number or its digits; "" = Triton chooses.
            timeout: seconds for this call alone, after which it is cancelled; None = as long as the request has.

        Returns:
            [N, ...] outputs by name, in the order of the rows; perhaps read-only. BYTES are objects of `bytes`.

        Raises:
            TensorError: a name, shape or dtype is not the model's.
            ValueError: `version` or `timeout` is none.
            DeadlineExceeded: it took longer than `timeout` (504).
            Unavailable: there is no such version, the model is not ready, or Triton cannot be reached (503).
            TritonFailed: the model did (502).
            BadRequest: Triton finds fault with the tensors (400).
        """

    async def infer_rows(
        self, arrays: Arrays, *, version: str | int = "", timeout: float | None = None
    ) -> list[dict[str, NDArray[Any]]]:
        """As `infer`, but gives the outputs of each row, without the batch dimension; their shapes may differ."""

    def at(self, version: str) -> Model: ...

    async def infer_batches(
        self, batches: Sequence[Arrays], top_k: int = ...
    ) -> list[list[dict[str, NDArray[Any]]]]: ...

    async def infer_checked(
        self, arrays: dict[str, NDArray[Any]], top_k: int = ...
    ) -> list[dict[str, NDArray[Any]]]: ...


class Handler:
    """Base class of handlers. Without any override it serves a model as it is: JSON in, JSON out.

    Override what differs. Each hook may be `async def` (runs on the event loop) or `def` (runs there as well while it
    proves to take microseconds, else in a thread), and may take the request's `Context` as a second argument.

    Attributes:
        model: name of the model in the repository; listener.yaml's `model` overrides it. "" = as the route is called.
            None = it has none of its own, and a `predict` that calls others.
        uses: names of further models that it calls; they are waited for, and are in `models`.
        example: a valid instance (`{"b64": ...}` objects as `bytes`); it is sent through the handler before the service
            calls itself ready. None = nothing is sent.
        instance_schema: what an instance is, as callers send it: a schema of OpenAPI 3.0, for /openapi.json and
            `listener schema`. It checks nothing. None = not told.
        prediction_schema: what a prediction is, likewise.
        offload: where `def` hooks run: "thread", "process", "inline" (on the event loop), or "" as above;
            listener.yaml's `offload` overrides it.
        models: every model of the service by name: those of all routes and nodes, and what handlers use. Another
            name is a KeyError that says so.
    """

    model: str | None = ""
    uses: Collection[str] = ()
    example: Json = None
    instance_schema: Mapping[str, Any] | None = None
    prediction_schema: Mapping[str, Any] | None = None
    offload: str = ""
    models: Mapping[str, Model]
    _name: str
    _model: str
    _pool: Pool
    _preprocess: Hook
    _postprocess: Hook
    _before_pace: Pace
    _after_pace: Pace

    def load(self, artifacts: Path) -> Any:
        """Runs once per worker before the first request; `artifacts` is the folder of the service. May be async def."""

    def close(self) -> Any:
        """Runs once per worker after the last request. May be async def."""

    def preprocess(self, *instance: Any) -> Any:
        """One instance -> named arrays without batch dimension, in the model's dtypes.

        Signature to override: `preprocess(self, instance)` or `preprocess(self, instance, context)`.

        Raises:
            InstanceError: the instance is wrong; the caller is told this sentence and the index, with status 400.
        """
        return from_instance(instance[0], self.spec)

    def postprocess(self, *outputs: Any) -> Any:
        """One instance's outputs, named arrays without batch dimension -> its prediction, anything that JSON can say.

        Signature to override: `postprocess(self, outputs)` or `postprocess(self, outputs, context)`.
        """
        return prediction(outputs[0], self.models[self._model].spec)

    async def predict(self, call: Call) -> Reply:
        """The whole request. The default: `preprocess` each instance, one batch to the model, `postprocess` each row.

        Where the model's configuration lets rows differ, there may be several batches. Without a `postprocess`,
        `parameters.top_k` asks for the best classes of labelled outputs.

        Raises:
            InstanceError: an instance is wrong; carries its index.
            BadRequest: `parameters.top_k` is none.
            HandlerFailed: a hook raised something else, or gave what the model does not take.
            ListenerError: from the model.
        """
        model, context = self.models[self._model], call.context
        if context.version:
            model = model.at(context.version)
        spec, unchanged = model.spec, self._postprocess.is_default
        if self._preprocess.is_default:
            if context.media_type:
                _check_media_type(context.media_type, spec)
            if call.chosen_by:
                call = call.for_inputs({tensor.name for tensor in spec.inputs})
            if type(call.instances) in _WHOLE and (one := _as_one(call.instances, spec)):
                reply = await self.predict(Call(one, context))
                return Reply(reply.predictions, whole=True)
        classes = top_k(context.parameters, spec) if context.parameters and unchanged else 0
        found: list[Batch] = []
        if self._preprocess.is_default and (batch := self._plain_batch(call, spec)) is not None:
            answers = [await model.infer_checked(batch, classes)]
        else:
            found = await self._before(call, spec)
            try:
                answers = await model.infer_batches([one.arrays for one in found], classes)
            except TensorError as error:
                raise failed(self._name, "preprocess", error, context) from error
        if unchanged and not classes and len(answers) == 1 and (array := plain_output(answers[0], spec)) is not None:
            return Reply(array)
        return Reply(await self._after(found, answers, call, spec, classes))

    def _plain_batch(self, call: Call, spec: ModelSpec) -> dict[str, NDArray[Any]] | None:
        """The usual request to a model without a handler: numbers, all of one shape."""
        tensor = spec.only_input
        if tensor is None:
            return None
        if isinstance(call.instances, Rows):
            array = from_rows(call.instances.array, tensor)
        else:
            array = from_instances(call.instances, tensor, call.booleans)
        return None if array is None else {tensor.name: array}

    @property
    def spec(self) -> ModelSpec:
        """What the handler's model takes and gives; raises Unavailable while that is not known."""
        if self.model is None:
            raise ValueError("this handler has no model of its own (model = None)")
        return self.models[self._model].spec

    @property
    def reads_views(self) -> bool:
        """Whether an instance may be a view of the request's body, which is only good for as long as the request."""
        return type(self).predict is Handler.predict  # which gives its hooks bytes

    async def _before(self, call: Call, spec: ModelSpec) -> list[Batch]:
        """The batches; where instances fail alone, whatever is wrong with any of them is found in one pass."""
        wrong: list[TensorError] | None = [] if call.alone else None
        try:
            found = await self._read(call.plain().instances, call, spec, wrong)
        except ListenerError:
            raise
        except Exception as error:
            if isinstance(error, TensorError) and len(error.args) == 2:
                raise InstanceError(*error.args) from None
            raise failed(self._name, "preprocess", error, call.context) from error
        if wrong:
            errors = sorted([InstanceError(*error.args) for error in wrong], key=lambda error: error.index or 0)
            raise InstancesFailed(str(errors[0]), errors)
        return found

    async def _read(
        self, instances: Sequence[Json], call: Call, spec: ModelSpec, wrong: list[TensorError] | None
    ) -> list[Batch]:
        if self._preprocess.is_default:
            work = partial(batches.of_json, instances, spec, wrong)
            return await self._before_pace.run(work, len(instances), self._pool)
        arrays = await self._preprocess.each(instances, call.context, self._pool, call.alone)
        for index, given in enumerate(arrays):
            if not isinstance(given, Mapping):
                raise TypeError(_no_arrays(given, index))
        return batches.of_rows(arrays, spec, wrong)

    async def _after(
        self, found: Sequence[Batch], answers: Sequence[Sequence[Arrays]], call: Call, spec: ModelSpec, classes: int
    ) -> list[Json]:
        """The predictions out of the answers to each batch."""
        if self._postprocess.is_default:
            work = partial(_predictions, answers, spec, classes > 0)
            made = await self._after_pace.run(work, len(call.instances), self._pool)
            return batches.in_order(found, made)
        rows = batches.in_order(found, [rows_of(parts, spec) for parts in answers])
        return await self._postprocess.each(rows, call.context, self._pool, call.alone)

    def bind(
        self,
        name: str,
        model: str | None,
        models: Mapping[str, Model],
        pool: Pool,
        offload: str = "",
        recipe: Recipe | None = None,
    ) -> None:
        """Hands the handler its collaborators. Called by the listener, or by a test.

        Args:
            name: the route's name, for messages.
            model: the model that `predict` calls; None = its own `predict` calls others.
            models: every model that the handler may call.
            pool: threads for its plain `def` hooks.
            offload: where they run, if not where the handler itself says.
            recipe: makes the handler once more in another process; `process` needs it.

        Raises:
            ValueError: `offload` is no such place, or there is no recipe.
        """
        self._name, self.model, self.models, self._pool = name, model, models, pool
        self._model = model or ""
        place = self.offload = offload or self.offload
        if place not in PLACES:
            raise ValueError(f"offload is {place!r}; it has to be thread, process or inline")
        if place == "process" and recipe is None:
            raise ValueError("offload is 'process', which takes a handler of a service")
        apart = Apart(recipe, models, pool.processes) if place == "process" and recipe else None
        self._preprocess = Hook(name, "preprocess", self.preprocess, Handler.preprocess, place, apart)
        self._postprocess = Hook(name, "postprocess", self.postprocess, Handler.postprocess, place, apart)
        self._before_pace, self._after_pace = Pace(f"reading for {name!r}"), Pace(f"predictions of {name!r}")
        if is_plain(self.predict):
            self.__dict__["predict"] = in_thread(self.predict, pool)


def _predictions(answers: Sequence[Sequence[Arrays]], spec: ModelSpec, classes: bool) -> list[list[Json]]:
    """Those of each batch."""
    return [predictions(parts, spec, classes) for parts in answers]


def _no_arrays(given: object, index: int) -> str:
    """Why that cannot be sent to a model."""
    return f"preprocess returned {kind(given)} for instances[{index}]; it has to be arrays by name"


#: What came as rows, and may be one instance.
_WHOLE = {Columns, Rows}


def _as_one(given: Sequence[Json], spec: ModelSpec) -> list[Json] | None:
    """The one instance, if they are: tensors of a model that does not batch, or an array that fits without a batch."""
    if isinstance(given, Columns):
        return None if spec.max_batch_size else [given.value]
    if isinstance(given, Rows) and spec.only_input and fits(given.array.shape, spec.only_input.shape):
        return [given.array]
    return None


def _check_media_type(media_type: str, spec: ModelSpec) -> None:
    """Without a handler that knows better, bytes of some media type are fit for a model of byte strings alone."""
    tensor = spec.only_input
    if tensor is None or tensor.datatype != "BYTES":
        raise BadRequest(
            f"Content-Type {media_type!r} is not handled; send application/json, or application/octet-stream for one "
            "instance's bytes"
        )


def check_reply(route: str, call: Call, reply: object) -> Reply:
    """What `predict` returned, if it is one prediction for each instance.

    Raises:
        HandlerFailed: it is not.
    """
    made: Any = reply.predictions if isinstance(reply, Reply) else reply
    listed = isinstance(made, (list, np.ndarray)) or (
        isinstance(made, Sized) and not isinstance(made, (str, bytes, Mapping))
    )
    count = len(made) if isinstance(reply, Reply) and listed else None
    wanted = 1 if isinstance(reply, Reply) and reply.whole else len(call.instances)
    if isinstance(reply, Reply) and count == wanted:
        return reply
    got = kind(made) if count is None else f"{count} predictions"
    error = TypeError(f"predict returned {got} for {len(call.instances)} instances")
    raise failed(route, "predict", error, call.context)
