"""For tests of handlers and services: a fake Triton, a listener with production's flags, a client, pytest fixtures.

`fixtures` is the plugin for pytest, and the one module here that needs it; the other names are for any test framework.
"""

from listener.testing.client import Client, Refused
from listener.testing.fake import FakeTriton
from listener.testing.fake_model import FakeModel, Tensors
from listener.testing.serving import listening, until_ready

__all__ = ["Client", "FakeModel", "FakeTriton", "Refused", "Tensors", "listening", "until_ready"]
