"""The one family of errors.

Each class knows its HTTP status and a stable `code`; the text given when it is raised is what the caller reads, so it
is one sentence that names what was wrong and where, without internals. Anything that is not of this family is a bug of
ours or of a handler: it becomes a fixed sentence (`HandlerFailed`, `InternalError`) and its trace goes to the log only.

Statuses: docs/reference/contract.md, section "Status codes".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ListenerError(Exception):
    """Base of all errors that may reach a caller.

    Attributes:
        status: the HTTP status.
        code: a stable word for logs and metrics.
        retry_after: seconds for the `Retry-After` header, or None for no header.
        of_rows: Triton did not answer a call, which one of its rows alone may be to blame for; they have nothing to do
            with one another, so each can be tried by itself.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    retry_after: ClassVar[int | None] = None
    of_rows: bool = False

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))

    @property
    def message(self) -> str:
        return str(self.args[0])

    @property
    def discreet(self) -> str:
        """What may stand in a log: the message, unless that may quote what the caller sent."""
        return self.message

    def for_log(self, openly: bool = False) -> str:
        """What does stand there, with the notes, which are for the log alone.

        Args:
            openly: the message whatever it quotes.
        """
        return "; ".join([self.message if openly else self.discreet, *getattr(self, "__notes__", [])])


class BadRequest(ListenerError):
    """The caller's fault: the body, a parameter, an unknown model."""

    status = 400
    code = "bad_request"

    @property
    def discreet(self) -> str:
        """No more than that it is so, as the message may quote the body."""
        return "the request is at fault"


class InstanceError(BadRequest):
    """One instance is at fault. Handlers raise it; the caller is told the index.

    Args:
        message: one sentence about the instance, without its index.
        index: the position in `instances`; None until the loop around the handler's hook fills it in.
    """

    code = "bad_instance"

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message if index is None else f"instances[{index}]: {message}")
        self.reason = one_line(message)
        self.index = index

    @property
    def discreet(self) -> str:
        """Which instance it is."""
        return "an instance is at fault" if self.index is None else f"instances[{self.index}] is at fault"

    def at(self, index: int) -> InstanceError:
        """The same complaint with its place."""
        return InstanceError(self.reason, index)


class InstancesFailed(BadRequest):
    """Several instances are at fault, each by itself; only where a request's instances fail one by one.

    Args:
        message: that of the first of them.
        errors: with their places.
    """

    code = "bad_instance"

    def __init__(self, message: str, errors: Sequence[InstanceError] = ()) -> None:
        super().__init__(message)
        self.errors = errors

    @property
    def discreet(self) -> str:
        """How many they are."""
        return f"{len(self.errors) or 'some'} instances are at fault"


class Forbidden(ListenerError):
    """Triton's control paths, which nobody reaches from outside."""

    status = 403
    code = "forbidden"


class UnknownPath(ListenerError):
    """No such route. Never used for an unknown model on the predict route, which is the caller's 400."""

    status = 404
    code = "unknown_path"


class UnknownModel(ListenerError):
    """The path is one of a model, and there is no such model or version."""

    status = 404
    code = "unknown_model"


class WrongMethod(ListenerError):
    """The path exists, the method does not."""

    status = 405
    code = "wrong_method"


class SlowBody(ListenerError):
    """The request's body comes too slowly for what it holds meanwhile."""

    status = 408
    code = "slow_body"


class BodyTooLarge(ListenerError):
    """The request body is over LISTENER_MAX_BODY."""

    status = 413
    code = "body_too_large"


class Overloaded(ListenerError):
    """All permits are taken; the caller may come back."""

    status = 429
    code = "overloaded"
    retry_after = 1


class InternalError(ListenerError):
    """A bug of ours; the sentence is fixed, the trace is in the log."""

    status = 500
    code = "internal"

    def __init__(self, message: str = "the listener failed on this request; the log has the reason") -> None:
        super().__init__(message)


class HandlerFailed(ListenerError):
    """A handler raised something that is not of this family, or made something that cannot be used.

    Args:
        hook: the method that failed.
        route: whose handler; None where that is not known.
        why: a note for the log, where there is no error to be read there.
    """

    status = 500
    code = "handler_failed"

    def __init__(self, hook: str, route: str | None = None, why: str = "") -> None:
        whose = "a handler" if route is None else f"the handler of {route!r}"
        super().__init__(f"{whose} failed in {hook}; the log has the reason")
        if why:
            self.add_note(why)


class TritonFailed(ListenerError):
    """Triton answered with a server error, or with something that is not an answer."""

    status = 502
    code = "triton_failed"


class Unavailable(ListenerError):
    """Starting, draining, Triton unreachable or a model not ready; the caller may come back."""

    status = 503
    code = "unavailable"
    retry_after = 1


class DeadlineExceeded(ListenerError):
    """The request's time is up."""

    status = 504
    code = "deadline_exceeded"


class ConfigError(Exception):
    """The service or the environment is set up wrongly; the start stops with these sentences.

    Args:
        mistakes: one sentence each, with file and line or the name of the variable.
    """

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def one_line(text: str) -> str:
    """Text fit for an error body and a log line: no line breaks, no runs of blanks, at most 500 characters.

    What does not print becomes '?': undecodable bytes, which come as lone surrogates in a request's path or a file's
    name, and control characters, with which a caller could forge lines or colours of a log.
    """
    if len(text) <= 500 and text.isprintable() and "  " not in text:  # nearly all are, and refusals shall be cheap
        return text.strip()
    flat = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
    return flat if len(flat) <= 500 else flat[:497] + "..."
