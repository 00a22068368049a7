"""The program `listener`, and `python -m listener`."""

import signal

# While modules are imported, Ctrl-C just ends the program; Python would show where it was.
if by_python := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from listener.cli import main

if by_python:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if __name__ == "__main__":
    main()
