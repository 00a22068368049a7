"""What is asked: each request has a number of its own, and so has its answer."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

#: Numbers of a request; FP32 is exact for all that is made of them.
_NUMBERS = 1_000_000
_BLANKS = 7  # characters that the number has in a body, so that all bodies have the same length


@dataclass(frozen=True)
class Question:
    """One kind of request: a body around a number, and the answer's first number as a function of it.

    Attributes:
        before, after: of the body.
        factor, summand: the model computes `factor * number + summand`.
        predictions: in the answer.
    """

    before: bytes
    after: bytes
    factor: float
    summand: float
    predictions: int

    def body(self, number: int) -> bytes:
        return b"%b%*d%b" % (self.before, _BLANKS, number % _NUMBERS, self.after)

    def is_right(self, number: int, body: bytes) -> bool:
        """Whether it is the answer to this number. Only the first prediction is read: the others cost too much."""
        try:
            head, _, rest = body.partition(b"[[")
            first = float(rest[: min(end for end in (rest.find(b","), rest.find(b"]")) if end >= 0)])
        except ValueError:
            return False
        wanted = self.factor * (number % _NUMBERS) + self.summand
        return head == b'{"predictions":' and first == wanted and body.count(b"[") == self.predictions + 1


def is_refusal(body: bytes) -> bool:
    """Whether it is the one form of an error: docs/reference/contract.md, "Errors"."""
    try:
        said = orjson.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and list(said) == ["error"] and isinstance(said["error"], str)


def _many(rows: int, columns: int) -> bytes:
    """The rest of a first row, and further rows, of numbers as W4 has them."""
    row = b", ".join(b"%.4f" % (column * 1.2345 - 9) for column in range(columns))
    first = row.partition(b", ")[2]
    return b", " + first + b"]" + b"".join(b", [" + row + b"]" for _ in range(rows - 1)) + b"]}"


#: `slow` has a capacity of its own, 400 rows a second; what `affine` can do is what the listener can.
QUESTIONS = {
    "slow": Question(b'{"instances": [[', b"]]}", 2.0, 1.0, 1),
    "affine": Question(b'{"instances": [[', _many(64, 16), 1.5, -0.25, 64),
}
