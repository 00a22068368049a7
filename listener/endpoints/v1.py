"""`/v1/models`: what TensorFlow Serving and KServe's first protocol say of a model.

docs/reference/contract.md, "Routes".
"""

from __future__ import annotations

import orjson
from aiohttp import web

from listener.call import Context
from listener.contract.answer import Answer
from listener.endpoints.predict import chosen_by_path
from listener.endpoints.serving import Endpoint, Loaded, response
from listener.errors import UnknownModel

#: What ends in :predict is a path for predictions, on which GET is the wrong method.
_NAME = "[^/]+(?<!:predict)"


class V1:
    """The endpoints that say whether models are ready; predictions are `predict.py`'s.

    Args:
        loaded: gives the service.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def resources(self) -> list[tuple[str, str, Endpoint]]:
        """Method, path and endpoint of each; a model's names stand in braces."""
        return [
            ("GET", "/v1/models", self.models),
            ("GET", f"/v1/models/{{model:{_NAME}}}", self.status),
            ("GET", f"/v1/models/{{model}}/versions/{{version:{_NAME}}}", self.status),
        ]

    async def models(self, request: web.Request) -> web.StreamResponse:
        """The names of all routes, and of the models beside them."""
        return response(Answer(orjson.dumps({"models": self._loaded().router.names()})))

    async def status(self, request: web.Request) -> web.StreamResponse:
        """Of a route's model, or of a model: as both protocols have it, in one object.

        A route of several steps has no versions, and is ready as health says it.
        """
        chosen = chosen_by_path(request)
        context = Context(model=chosen.model, version=chosen.version)
        serving = self._loaded()
        if context.model in serving.router.graphs:
            if context.version:
                raise UnknownModel(f"route {context.model!r} has several steps, and no versions")
            ready = not serving.readiness.lacks(context.model)
            return response(Answer(orjson.dumps({"name": context.model, "ready": ready, "model_version_status": []})))
        step = await serving.router.step(context.model, context)
        if not step.model:  # its handler calls others, which health waits for
            said = {"name": context.model, "ready": serving.readiness.ready, "model_version_status": []}
            return response(Answer(orjson.dumps(said)))
        versions = await serving.catalogue.versions(step.model)
        if context.version:
            if context.version not in versions:
                raise UnknownModel(f"model {context.model!r} has no version {context.version}")
            versions = (context.version,)
        ready = bool(versions) and await serving.catalogue.ready(step.model, context.version)
        said = {"name": context.model, "ready": ready, "model_version_status": [_version(v, ready) for v in versions]}
        return response(Answer(orjson.dumps(said)))


def _version(version: str, ready: bool) -> dict[str, object]:
    state, code = ("AVAILABLE", "OK") if ready else ("LOADING", "UNAVAILABLE")
    return {"version": version, "state": state, "status": {"error_code": code, "error_message": ""}}
