"""Whether a request body is what an API of Google's takes, by the schemas in its discovery document.

The client that sends bodies looks at the path and its parameters only; a field that is misspelt would come back as a
400 at best, and be left out at worst. Format: https://developers.google.com/discovery/v1/type-format
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

_FORMS = {
    "int64": (re.compile(r"-?\d{1,19}"), "a whole number as text"),
    "uint64": (re.compile(r"\d{1,20}"), "a whole number as text"),
    "google-duration": (re.compile(r"-?\d+(\.\d{1,9})?s"), "a duration such as '30s'"),
    "google-datetime": (
        re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"),
        "a time such as 2026-11-26T12:00:00Z",
    ),
    "google-fieldmask": (re.compile(r"[\w.]+(,[\w.]+)*"), "a list of fields such as 'a,b.c'"),
    "byte": (re.compile(r"[A-Za-z0-9+/_-]*={0,2}"), "base64"),
}
_RANGES = {"int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1)}


class Schemas:
    """Those of one API.

    Args:
        document: its discovery document.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas: Mapping[str, Schema] = document["schemas"]

    def mistakes(self, name: str, value: Any, *, sent: bool = True) -> list[str]:
        """What is wrong with a body: a sentence for each field that is unknown, ill-typed or not ours to say.

        Args:
            name: of the schema, such as `GoogleCloudAiplatformV1UploadModelRequest`.
            value: the body, as it goes into JSON.
            sent: by us; a field that only the platform fills in is a mistake then.
        """
        return list(self._of({"$ref": name}, value, "", sent))

    def _of(self, schema: Schema, value: Any, at: str, sent: bool) -> list[str]:
        if sent and (schema.get("readOnly") or schema.get("description", "").startswith("Output only")):
            return [f"{at}: only the platform says it"]
        if "$ref" in schema:
            return self._of({**self._schemas[schema["$ref"]], "name": schema["$ref"]}, value, at, sent)
        match schema.get("type"):
            case "object":
                return self._object(schema, value, at, sent)
            case "array":
                if not isinstance(value, list):
                    return [f"{at}: is to be a list, not {_said(value)}"]
                return [m for i, item in enumerate(value) for m in self._of(schema["items"], item, f"{at}[{i}]", sent)]
            case "any" | None:
                return []
            case kind:
                return _SCALARS[kind](schema, value, at)

    def _object(self, schema: Schema, value: Any, at: str, sent: bool) -> list[str]:
        if not isinstance(value, dict):
            return [f"{at or 'the body'}: is to be an object, not {_said(value)}"]
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        found = []
        for key, inner in value.items():
            place = f"{at}.{key}" if at else key
            if (field := known.get(key, others)) is not None:
                found += self._of(field, inner, place, sent)
            else:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                found.append(f"{place}: is no field of {schema.get('name', schema.get('id', 'it'))}{hint}")
        return found


def _string(schema: Schema, value: Any, at: str) -> list[str]:
    if not isinstance(value, str):
        return [f"{at}: is to be text, not {_said(value)}"]
    if "enum" in schema and value not in schema["enum"]:
        near = difflib.get_close_matches(value, schema["enum"], n=1)
        return [f"{at}: {value!r} is none of its values" + (f"; did you mean {near[0]}?" if near else "")]
    form, wanted = _FORMS.get(schema.get("format", ""), (None, ""))
    if form and not form.fullmatch(value):
        return [f"{at}: {value!r} is not {wanted}"]
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return [f"{at}: {value!r} is not of the form {schema['pattern']}"]
    return []


def _integer(schema: Schema, value: Any, at: str) -> list[str]:
    if isinstance(value, bool) or not isinstance(value, int):
        return [f"{at}: is to be a whole number, not {_said(value)}"]
    low, high = _RANGES.get(schema.get("format", "int32"), _RANGES["int32"])
    return [] if low <= value <= high else [f"{at}: {value} does not fit into {schema.get('format')}"]


def _number(schema: Schema, value: Any, at: str) -> list[str]:
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    return [] if fits else [f"{at}: is to be a number, not {_said(value)}"]


def _boolean(schema: Schema, value: Any, at: str) -> list[str]:
    return [] if isinstance(value, bool) else [f"{at}: is to be true or false, not {_said(value)}"]


_SCALARS: dict[str, Callable[[Schema, Any, str], list[str]]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
}


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
