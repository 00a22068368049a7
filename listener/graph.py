"""The graph of a service: callables from `Call` to `Reply`, all with one signature, wrapped around one another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from listener.call import Call, Reply
from listener.errors import BadRequest, ListenerError
from listener.handler import Handler, check_reply, failed, is_cancelled

#: Every node of the graph.
Node: TypeAlias = Callable[[Call], Awaitable[Reply]]


def step(name: str, handler: Handler) -> Node:
    """The leaf: one handler's `predict`, whose failures and wrong results become `HandlerFailed`."""

    async def run(call: Call) -> Reply:
        if not handler.reads_views:
            call = call.plain()
        try:
            reply = await handler.predict(call)
        except ListenerError:
            raise
        except (Exception, SystemExit) as error:
            raise failed(name, "predict", error, call.context) from error
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            raise failed(name, "predict", error, call.context) from error
        return check_reply(name, call, reply)

    return run


def by_route(routes: Mapping[str, Node], default: str) -> Node:
    """Chooses by the request's `parameters.model`; without one, the default route.

    Raises (when called):
        BadRequest: there is no such route.
    """

    async def run(call: Call) -> Reply:
        name = call.context.parameters.get("model", default)
        node = routes.get(name) if isinstance(name, str) else None
        if node is None:
            shown = repr(name[:100]) if isinstance(name, str) else "of that name (it is no string)"
            raise BadRequest(f"parameters.model: no route {shown}; the routes are {', '.join(map(repr, routes))}")
        return await node(call)

    return run
