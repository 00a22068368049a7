"""What may be asked of the platforms: names, images, places, variables. From text to value, or a ValueError that ends
the sentence "--option: 'text' ...".

The platforms have these rules in their documentation and say them late: an upload takes minutes until it is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from listener import forms, settings
from listener.errors import ConfigError

#: https://cloud.google.com/resource-manager/docs/creating-managing-projects; the first one is that of a domain.
_PROJECT = re.compile(r"(?:[a-z0-9.-]+\.[a-z]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]|[1-9][0-9]{5,19}")
#: Both that of an endpoint and that of a model, so that the two have the same name.
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: Of models and versions: https://cloud.google.com/ai-platform/prediction/docs/deploying-models
_LEGACY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
_IMAGE = re.compile(
    r"(?P<host>[a-z0-9.-]+(?::\d+)?)/(?P<path>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_ARTIFACT_REGISTRY = re.compile(r"[a-z0-9-]+-docker\.pkg\.dev")
_CONTAINER_REGISTRY = re.compile(r"(?:[a-z]+\.)?gcr\.io")
_ACCOUNT = re.compile(r"[a-z0-9.-]+@[a-z0-9.-]+\.gserviceaccount\.com")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: https://cloud.google.com/vertex-ai/docs/reference/rest/v1/ModelContainerSpec: of the variables of a container.
_MOST_VARIABLES, _LARGEST_VARIABLE, _ALL_VARIABLES = 200, 128 << 10, 512 << 10


def project(text: str) -> str:
    """A project's id, or its number."""
    if not _PROJECT.fullmatch(text):
        raise ValueError(
            "is no project's id (6 to 30 lower-case letters, digits and '-'); `gcloud projects list` has them"
        )
    return text


def region(text: str, regions: Sequence[str]) -> str:
    """One of those where the API is.

    Args:
        text: the name.
        regions: all of them.
    """
    if text not in regions:
        zone = f"; it is a zone of {text[:-2]}" if text[:-2] in regions else ""
        near = difflib.get_close_matches(text, regions, n=1)
        raise ValueError("is no region with Vertex AI" + (zone or (f"; did you mean {near[0]}?" if near else "")))
    return text


def image(text: str) -> str:
    """An image in a registry of Google's, which is where the platforms take images from."""
    found = _IMAGE.fullmatch(text)
    example = "such as us-central1-docker.pkg.dev/PROJECT/REPOSITORY/listener:1"
    if not found or "." not in found["host"]:
        raise ValueError(f"is no path in a registry, {example}; push the image there first")
    if _ARTIFACT_REGISTRY.fullmatch(found["host"]):
        if found["path"].count("/") < 2:
            raise ValueError(
                f"lacks a part; a path in Artifact Registry is HOST/PROJECT/REPOSITORY/IMAGE:TAG, {example}"
            )
    elif not _CONTAINER_REGISTRY.fullmatch(found["host"]):
        raise ValueError(f"lies on {found['host']}; the platform takes images from Artifact Registry, {example}")
    return text


def image_parts(text: str) -> tuple[str, str, str, str]:
    """Host, path, tag (`latest` where none is said) and digest ('' where none is said) of a checked image."""
    found = _IMAGE.fullmatch(text)
    assert found
    return found["host"], found["path"], found["tag"] or "latest", found["digest"] or ""


def artifacts(text: str) -> str:
    """gs://BUCKET/PREFIX."""
    if not text.startswith("gs://"):
        raise ValueError("is no place in Cloud Storage; write gs://BUCKET/PREFIX, a folder that was uploaded there")
    return forms.place(text)


def name(text: str) -> str:
    """That of a model and an endpoint on Vertex."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            "is no name: up to 63 lower-case letters, digits and '-', a letter first and no '-' at the end"
        )
    return text


def legacy_name(text: str) -> str:
    """That of a model, or of a version, on AI Platform Prediction."""
    if not _LEGACY_NAME.fullmatch(text):
        raise ValueError("is no name: up to 128 letters, digits and '_', a letter first")
    return text


def account(text: str) -> str:
    """A service account's address."""
    if not _ACCOUNT.fullmatch(text):
        raise ValueError("is no service account, such as NAME@PROJECT.iam.gserviceaccount.com")
    return text


def variables(given: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """A container's environment, of `NAME=VALUE` each.

    Returns:
        The variables, and a sentence for each mistake.
    """
    found: dict[str, str] = {}
    mistakes = []
    for text in given:
        key, equals, value = text.partition("=")
        if why := _variable_mistake(key, equals, value, key in found):
            mistakes.append(f"--env: {key!r} {why}")
        found[key] = value
    if len(found) > _MOST_VARIABLES:
        mistakes.append(f"--env: {len(found)} variables are more than the platform's {_MOST_VARIABLES}")
    if sum(_size(key, value) for key, value in found.items()) > _ALL_VARIABLES:
        mistakes.append("--env: the variables have more than 512 KiB, the platform's limit for all of them")
    return found, mistakes or _setting_mistakes(found)


def _variable_mistake(key: str, equals: str, value: str, twice: bool) -> str:
    if not equals:
        return "has no value; write NAME=VALUE"
    if not _VARIABLE.fullmatch(key):
        return "is no name of a variable: letters, digits and '_', no digit first"
    if key.startswith("AIP_"):
        return "begins with AIP_, which the platform keeps for its own variables"
    if twice:
        return "is given twice"
    return "has 128 KiB or more, the platform's limit for one" if _size(key, value) >= _LARGEST_VARIABLE else ""


def _size(key: str, value: str) -> int:
    return len(f"{key}={value}".encode())


def _setting_mistakes(found: dict[str, str]) -> list[str]:
    """Those that the listener would tell at its start, which is minutes later."""
    # the platform replaces $(AIP_STORAGE_URI) and the like; what the value will be is not known here
    known = {key: value for key, value in found.items() if "$(" not in value}
    try:
        settings.read(known)
    except ConfigError as error:
        return [f"--env {mistake}" for mistake in error.mistakes]
    return [f"--env: {sentence}" for sentence in settings.misspelt(found)]
