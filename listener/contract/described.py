"""What is known of a route's instances and predictions: what its handler declares, or the model's tensors."""

from __future__ import annotations

from listener.contract.schema import Schema
from listener.contract.served import Served
from listener.handler import Handler
from listener.tensors import ModelSpec


def served(
    name: str, handler: type[Handler], model: str, spec: ModelSpec | None = None, versions: tuple[str, ...] = ()
) -> Served:
    """One route with what is known of it.

    Args:
        name: the route.
        handler: its class.
        model: Triton's name of its model.
        spec: that model's tensors; None = not known yet.
        versions: of the model.
    """
    whole = handler.predict is Handler.predict
    instance = _declared(handler.instance_schema, whole and handler.preprocess is Handler.preprocess)
    prediction = _declared(handler.prediction_schema, whole and handler.postprocess is Handler.postprocess)
    return Served(name, model, spec, instance, prediction, versions)


def _declared(schema: object, plain: bool) -> Schema | None:
    """A handler's own word; else None for tensors as they are, and the empty schema for what nobody knows."""
    if isinstance(schema, dict):
        return schema
    return None if plain else {}
