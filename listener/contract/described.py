"""What is known of a route's instances and predictions: what its handler declares, or the model's tensors."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import orjson

from listener.call import Json
from listener.contract.schema import Schema
from listener.contract.served import Served
from listener.handler import Handler
from listener.said import listed
from listener.tensors import ModelSpec

#: Bytes of an example that is shown; a picture may have millions.
_LARGEST = 16 << 10
#: Those of handlers and their classes, as their JSON may take long to make.
_EXAMPLES: WeakKeyDictionary[Handler | type[Handler], tuple[Json, int]] = WeakKeyDictionary()


def served(
    name: str,
    handler: type[Handler],
    model: str,
    spec: ModelSpec | None = None,
    versions: tuple[str, ...] = (),
    made: Handler | None = None,
) -> Served:
    """One route with what is known of it.

    Args:
        name: the route.
        handler: its class.
        model: Triton's name of its model.
        spec: that model's tensors; None = not known yet.
        versions: of the model.
        made: the handler itself, whose `load` may have made the example.
    """
    whole = handler.predict is Handler.predict
    instance = _declared(handler.instance_schema, whole and handler.preprocess is Handler.preprocess)
    prediction = _declared(handler.prediction_schema, whole and handler.postprocess is Handler.postprocess)
    example, size = _example(made or handler)
    return Served(name, model, spec, instance, prediction, versions, example, size)


def _example(handler: Handler | type[Handler]) -> tuple[Json, int]:
    """A handler's example as callers send it, and the bytes of its JSON.

    None where they are too many to be shown; None and 0 where there is no example, or none that JSON can say.
    """
    if handler not in _EXAMPLES:
        try:
            said = orjson.dumps(handler.example, default=listed, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:
            said = b"null"
        size = 0 if said == b"null" else len(said)
        _EXAMPLES[handler] = orjson.loads(said) if size <= _LARGEST else None, size
    return _EXAMPLES[handler]


def _declared(schema: object, plain: bool) -> Schema | None:
    """A handler's own word; else None for tensors as they are, and the empty schema for what nobody knows."""
    if isinstance(schema, dict):
        return schema
    return None if plain else {}
