"""When a call that Triton has not answered is sent once more. Pure, but for chance."""

from __future__ import annotations

from random import uniform

#: Further tries of one call. Triton is on the same machine or near it: what a few moments do not heal takes seconds.
_TRIES = 2
#: Seconds that the first pause has at most; each further one may be twice as long. Chance chooses from zero on, so that
#: callers who failed together do not come back together.
_PAUSE = 0.02
#: Tries that all calls together have at most, and the part of one that each call brings. So while Triton is down, a
#: tenth of the calls is tried again and not each of them three times.
_MOST, _SHARE = 10.0, 0.1


class Retries:
    """The tries that one client has left for all its calls.

    Attributes:
        calls: that were made so far; whoever makes one counts it.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._counted = 0
        self._left = _MOST

    def pause(self, tried: int) -> float | None:
        """Takes one try, and says after how many seconds it may begin; None = there is none left.

        Args:
            tried: how often this call has been tried again already.
        """
        self._left = min(_MOST, self._left + _SHARE * (self.calls - self._counted))
        self._counted = self.calls
        if tried >= _TRIES or self._left < 1:
            return None
        self._left -= 1
        return uniform(0, _PAUSE * 2**tried)
