"""What every test shares: hypothesis measures nothing here, and takes few examples so that a run stays short.

A job in the background of a script ignores Ctrl-C, and so would all that it starts; tests send it to their processes.
"""

from __future__ import annotations

import signal

import hypothesis

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("listener", deadline=None, max_examples=60)
hypothesis.settings.load_profile("listener")
