"""By what a version of a model is told again: the request, the image's digest, and what lies at its artefacts.

A tag and a folder keep their names when something else is pushed or copied there. So a version that was uploaded is
only taken up again where all that it was made of is the same; where that cannot be known, another one is uploaded.
"""

from __future__ import annotations

import hashlib
import json

import requests
from google.auth import exceptions as auth

from listener.artifacts import bucket, delivery, fetch
from listener.artifacts.cloud import Cloud
from listener.errors import ConfigError
from listener.tools.deploy import rules, vertex
from listener.tools.deploy.calls import Api
from listener.tools.deploy.wanted import Wanted

_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_SILENCE = 20.0


def of(wanted: Wanted, api: Api) -> str:
    """A few letters; '' where the registry does not say which image it is.

    Raises:
        ConfigError: there is no such image, or nothing that can be served at the artefacts.
    """
    artefacts = _artefacts(wanted.artifact_uri) if wanted.artifact_uri else ""
    image = _digest(wanted.image, api)
    if not image:
        return ""
    made_of = [vertex.upload(wanted).body, image, artefacts]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _artefacts(uri: str) -> str:
    delivery.quieten()
    place, cloud = bucket.parse(uri), Cloud()
    try:
        return fetch.listed(place, cloud).digest
    finally:
        cloud.close()


def _digest(image: str, api: Api) -> str:
    """Of the image as it is now; '' where the registry does not let us see."""
    host, path, tag, digest = rules.image_parts(image)
    if digest:
        return digest
    base = api.address if api.is_emulated else f"https://{host}"
    try:
        answer = api.session.head(
            f"{base}/v2/{path}/manifests/{tag}", headers={"Accept": _MANIFESTS}, timeout=_SILENCE, allow_redirects=True
        )
    except (requests.RequestException, auth.GoogleAuthError):
        return ""
    if answer.status_code == 404:
        raise ConfigError(f"--image: {image!r} is not in its registry; push it first, with `docker push {image}`")
    return str(answer.headers.get("Docker-Content-Digest", "")) if answer.status_code == 200 else ""
