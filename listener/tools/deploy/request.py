"""One request to an API of Google's: what `--dry-run` prints and what goes out are the same value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from listener.errors import ConfigError
from listener.tools.deploy.schemas import Schemas


@dataclass(frozen=True, slots=True)
class Request:
    """A POST.

    Attributes:
        does: what it does, as the beginning of a sentence: "upload the model".
        url: with everything but the query.
        schema: of the body, in the API's discovery document.
        body: as it goes into JSON.
        query: parameters beside the body.
    """

    does: str
    url: str
    schema: str
    body: Mapping[str, Any]
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The URL with its query, whose values need no quoting: they are names by our rules."""
        return self.url + "".join(
            f"{'&' if i else '?'}{name}={value}" for i, (name, value) in enumerate(self.query.items())
        )


def require_right(requests: list[Request], schemas: Schemas) -> None:
    """Holds bodies against the API's own schemas.

    Raises:
        ConfigError: a field is unknown or has the wrong type; a sentence for each.
    """
    found = [f"{each.does}: {mistake}" for each in requests for mistake in schemas.mistakes(each.schema, each.body)]
    if found:
        raise ConfigError(*found)
