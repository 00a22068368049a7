"""A service whose handlers fail, hang, wait for one another and count, for proofs of what the graph does then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from listener.call import Json
from tests.integration import paths
from tests.integration.paths import ROW, step

HANDLERS = """
from collections import Counter, defaultdict

from listener import InstanceError

from handlers.paths import *

#: How often each of the handlers was called; the module is one for all of them.
calls = Counter()
arrived = defaultdict(asyncio.Event)


class Told(Handler):
    async def predict(self, call):
        return Reply([calls[name] for name in call.instances])


class Counted(Handler):
    async def predict(self, call):
        calls[type(self).__name__] += 1
        return await self.act(call)


class Stubborn(Counted):
    '''Is not there as often as the kind of the instance says.'''

    async def act(self, call):
        v, kind = read(call.instances[0])
        calls[f"stubborn {v:.0f}"] += 1
        if calls[f"stubborn {v:.0f}"] <= kind:
            raise Unavailable("gone on purpose")
        return Reply([written(item, 7) for item in call.instances])


class NeverThere(Counted):
    async def act(self, call):
        raise Unavailable("gone on purpose")


class Raises(Counted):
    async def act(self, call):
        raise RuntimeError("on purpose")


class Refuses(Counted):
    async def act(self, call):
        raise InstanceError("refused on purpose", 0)


class Hanging(Counted):
    async def act(self, call):
        await asyncio.Event().wait()


class Deaf(Counted):
    '''Hangs, and does not heed that it is told to stop.'''

    async def act(self, call):
        for _ in range(40):
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                pass
        return Reply(call.instances)


class Blocking(Handler):
    def predict(self, call):
        calls["Blocking"] += 1
        threading.Event().wait()


class Frozen(Handler):
    def preprocess(self, item):
        threading.Event().wait()


class Meets(Handler):
    '''Answers when the other one of the two has been asked about the same number as well.'''

    async def predict(self, call):
        v = int(read(call.instances[0])[0]) // 10  # of the same ten
        arrived[self.me, v].set()
        async with asyncio.timeout(10):
            await arrived[self.other, v].wait()
        return Reply([written(item, self.digit) for item in call.instances])


class Left(Meets):
    me, other, digit = "left", "right", 1


class Right(Meets):
    me, other, digit = "right", "left", 2


class Slow(Handler):
    '''Is done after a time, in ms, that the number says.'''

    async def predict(self, call):
        await asyncio.sleep(max(read(item)[0] for item in call.instances) / 1000)
        return Reply([written(item, 8) for item in call.instances])
"""


def act(handler: str, **more: Json) -> Json:
    return {"handler": f"handlers.acts:{handler}", "model": "ra", **more}


def _by_kind(*nodes: Json) -> Json:
    return {"switch": {**ROW.kind, "cases": {str(kind): node for kind, node in enumerate(nodes, 1)}}}


ROUTES: dict[str, Json] = {
    "told": act("Told"),
    "two": _by_kind("ra", "rb"),
    "four": _by_kind("ra", "rb", "rc", "rv@1"),
    "sure": {"cascade": {"nodes": ["ra", "rb", "rc"], "below": 3, "score": "handlers.paths:kind"}},
    "both": {"ensemble": {"members": {"x": act("Left"), "y": act("Right")}, "merge": "handlers.paths:united"}},
    "ways": _by_kind(act("Left"), act("Right")),
    "failing": {"fallback": [act("Raises"), "ra"]},
    "late": {"fallback": [act("Slow", timeout=0.3), "ra"]},
    "refusing": {"fallback": [act("Refuses"), "ra"]},
    "hopeless": {"fallback": [act("Raises"), act("NeverThere")]},
    "patient": act("Stubborn", retry=2),
    "raising": act("Raises", retry=5),
    "refused": act("Refuses", retry=5),
    "bounded": act("NeverThere", retry=100, timeout=0.6),
    "alive": {"fallback": ["ra", step(ROW, "Alone")]},
    **{
        f"mirror {name}": {"shadow": {"node": "rb", "mirror": mirror, "limit": 2}}
        for name, mirror in {
            "hanging": act("Hanging"),
            "blocking": act("Blocking"),
            "frozen": act("Frozen", offload="process"),
            "deaf": act("Deaf"),
            "raising": act("Raises"),
            "gone": act("NeverThere"),
        }.items()
    },
    "beside threads": {"shadow": {"node": step(ROW, "Threaded"), "mirror": act("Blocking"), "limit": 8}},
    "beside processes": {
        "shadow": {
            "node": step(ROW, "Apart", offload="process"),
            "mirror": act("Frozen", offload="process"),
            "limit": 8,
        }
    },
    "beside lost threads": {
        "shadow": {"node": step(ROW, "Threaded"), "mirror": act("Blocking", timeout=0.02), "limit": 100}
    },
    "split": {
        "split": {
            "sticky": {"field": "user"},
            "arms": {
                name: {"weight": weight, "node": {**step(ROW, "Hooked"), "model": model}}
                for name, weight, model in (("old", 70, "ra"), ("new", 20, "rb"), ("newest", 10, "rc"))
            },
        }
    },
}


def write(folder: Path, **routes: Any) -> Path:
    """Writes the service; gives its folder. Further routes come beside its own."""
    made = paths.write(folder, {"default": "alive", "routes": {**ROUTES, **routes}})
    (made / "handlers/acts.py").write_text(HANDLERS)
    return made
