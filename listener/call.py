"""The nouns that travel: `Call` goes down the floors, `Reply` comes back up. Nobody can change one.

They are named tuples, which are made in a third of a frozen dataclass's time; each request makes three.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, overload

if TYPE_CHECKING:  # numpy is not needed to answer the first health check, so it is not loaded for the types' sake
    from numpy.typing import NDArray

#: Named arrays. Between the listener and Triton the leading dimension is the batch; in a handler's per-instance hooks
#: there is none.
Arrays: TypeAlias = "Mapping[str, NDArray[Any]]"

#: A request's body; a view where it lies in memory shared with Triton.
Body: TypeAlias = bytes | memoryview

#: What JSON can say, plus `bytes` where a `{"b64": ...}` object stood.
Json: TypeAlias = Any

#: No parameters, no headers.
NOTHING: Mapping[str, Any] = MappingProxyType({})


def whole(value: Json) -> Json:
    """A whole number as an int, also where it came as a double, as every number may; all else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Stay(Protocol):
    """A request's stay in this worker (`gate.py`), as far as the graph has to do with it.

    Attributes:
        route: that it is for.
    """

    route: str

    def took(self, branch: str, model: str) -> None:
        """A step works on it."""

    def after(self, act: Callable[[], None]) -> None:
        """Runs something once the answer is sent."""

    def share(self, route: str) -> None:
        """Counts the request as one of a route's; raises Overloaded where that has as many as it may have."""


class Context(NamedTuple):
    """What a request says besides its instances. Handlers may read it; nobody may change it.

    Attributes:
        request_id: the caller's `X-Request-Id`, or one that was made here.
        headers: request headers, names in lower case.
        parameters: the body's `parameters` object; empty when it was missing or null
            (docs/reference/contract.md, "Request").
        extras: other top-level keys of the body, such as the legacy clients' `signature_name`.
        deadline: the `time.monotonic()` by which the answer must be on its way.
        model: the route or model that the path names; "" = it names none, and `parameters.model` or the default counts.
        version: of the model, digits; "" = Triton chooses.
        media_type: of a body that is one instance's bytes, other than `application/octet-stream`; "" for all else.
        stay: the request's, for the graph; None = there is nobody who is answered.
    """

    request_id: str = ""
    headers: Mapping[str, str] = NOTHING
    parameters: Mapping[str, Json] = NOTHING
    extras: Mapping[str, Json] = NOTHING
    deadline: float = float("inf")
    model: str = ""
    version: str = ""
    media_type: str = ""
    stay: Stay | None = None

    @property
    def trace(self) -> str:
        """The request's `traceparent` (https://www.w3.org/TR/trace-context/); "" = it has none."""
        return str(self.headers.get("traceparent", ""))

    def afterwards(self, act: Callable[[], None]) -> None:
        """Runs something once the answer is sent; at once where nobody is answered."""
        if self.stay is None:
            act()
        else:
            self.stay.after(act)

    def remaining(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.deadline - time.monotonic())


#: Of the request whose task, or hook in a thread, this is; None where there is none. For log lines.
REQUEST: ContextVar[Context | None] = ContextVar("request", default=None)


class Lazy(Sequence[Json]):
    """Instances that are made into a list when somebody looks.

    Args:
        make: gives the list.
    """

    __slots__ = ("_list", "_make")

    def __init__(self, make: Callable[[], list[Json]]) -> None:
        self._make = make
        self._list: list[Json] | None = None

    def __len__(self) -> int:
        return len(self.as_list())

    @overload
    def __getitem__(self, index: int) -> Json: ...

    @overload
    def __getitem__(self, index: slice) -> list[Json]: ...

    def __getitem__(self, index: int | slice) -> Json:
        return self.as_list()[index]

    def as_list(self) -> list[Json]:
        """The instances, one by one."""
        if self._list is None:
            self._list = self._make()
        return self._list


class Numbers(Lazy):
    """Instances that are numbers, or lists of numbers nested alike.

    Args:
        shape: of all instances together, their number first.
        values: the numbers in their order, as doubles.
        read: gives the instances as JSON's lists and numbers.
    """

    __slots__ = ("shape", "values")

    def __init__(self, shape: tuple[int, ...], values: memoryview, read: Callable[[], list[Json]]) -> None:
        super().__init__(read)
        self.shape, self.values = shape, values

    def __len__(self) -> int:
        return self.shape[0]


class Columns(Lazy):
    """Instances that came by columns, as TensorFlow Serving's `inputs` has them: they are its rows.

    Args:
        value: a list with an element for each row, or such lists by input name.
        rows: makes them; raises where these are no columns of one length, which the tensors of a model that does not
            batch need not be.

    Attributes:
        value: as it came; the whole tensors, for a model that does not batch.
    """

    __slots__ = ("value",)

    def __init__(self, value: Json, rows: Callable[[], list[Json]]) -> None:
        super().__init__(rows)
        self.value = value


class Rows(Sequence[Json]):
    """Instances that came as one array: each is a view without its leading dimension, made when somebody looks.

    Attributes:
        array: with a leading dimension of at least 1.
    """

    __slots__ = ("array",)

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> Json: ...

    @overload
    def __getitem__(self, index: slice) -> list[Json]: ...

    def __getitem__(self, index: int | slice) -> Json:
        if isinstance(index, slice):
            return [self.array[at, ...] for at in range(*index.indices(len(self)))]
        return self.array[index, ...]

    def as_list(self) -> list[Json]:
        """The views."""
        return self[:]


class Call(NamedTuple):
    """A request on its way down.

    Attributes:
        instances: in the caller's order.
        context: what the request says besides.
        booleans: whether an instance may hold true or false; numpy would take them for numbers.
        alone: an instance that is at fault gets `Failed` for a prediction, and the others theirs.
        chosen_by: fields of the instances that have said the way; a model without code is not asked about them.
        shared: others get the same instances, so that a handler, which may change them, has to get copies.
    """

    instances: Sequence[Json]
    context: Context = Context()
    booleans: bool = True
    alone: bool = False
    chosen_by: frozenset[str] = frozenset()
    shared: bool = False

    def own(self) -> Call:
        """The same with instances that may be changed at the top without harm to others."""
        copies = [instance.copy() if type(instance) in (dict, list) else instance for instance in self.instances]
        return self._replace(instances=copies, shared=False)

    def for_inputs(self, inputs: Collection[str]) -> Call:
        """The same without the fields that have said the way, unless the model has inputs of their names."""
        if not (spare := self.chosen_by.difference(inputs)):
            return self
        plain = self.plain()
        kept = [
            {name: value for name, value in each.items() if name not in spare} if isinstance(each, dict) else each
            for each in plain.instances
        ]
        return plain._replace(instances=kept)

    def plain(self) -> Call:
        """The same where the instances are a list, and none of them a view of the body."""
        if isinstance(self.instances, Lazy | Rows):
            return self._replace(instances=self.instances.as_list())
        if not any(isinstance(instance, memoryview) for instance in self.instances):
            return self
        return self._replace(
            instances=[bytes(item) if isinstance(item, memoryview) else item for item in self.instances]
        )


class Failed(dict[str, Json]):
    """In place of the prediction of an instance that is at fault.

    Args:
        reason: one sentence about the instance.
        status: that a request of this instance alone would get.

    Attributes:
        status: likewise.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(error=reason)
        self.status = status


class Reply(NamedTuple):
    """An answer on its way up.

    Attributes:
        predictions: one for each instance, in the same order; or an array with a row for each.
        whole: there is but one, for all instances together: `Columns` went to a model that does not batch.
    """

    predictions: Sequence[Json] | NDArray[Any]
    whole: bool = False
