"""The graph of a service, as far as it can be checked without a model: references, versions and functions."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping

from listener import importing
from listener.errors import ConfigError
from listener.nodes import Ref, placed, single
from listener.service import Service
from listener.tools import handler_checks

#: The versions in a model's folder, and those of them that Triton loads.
Versions = Mapping[str, tuple[list[str], list[str]]]


def functions(found: Service) -> list[str]:
    """Functions that cannot be imported, or called as they will be."""
    try:
        with handler_checks.quiet():
            importing.check_functions(found)
    except ConfigError as error:
        return list(error.mistakes)
    return []


def references(found: Service, behind: Mapping[str, str], models: Collection[str], versions: Versions) -> Iterator[str]:
    """References to what is not there, and to versions that are not.

    Args:
        found: the service.
        behind: the model of each route and part, as far as it is known.
        models: those of the repository.
        versions: of the models of which they are known.
    """
    for graph in found.graphs.values():
        for at, node in placed(graph):
            if not isinstance(node, Ref):
                continue
            place = f"{found.file}:{node.line or graph.line}: {at}"
            if is_model(found, node.name) and node.name not in models:
                names = [name for name in (*found.steps, *found.graphs) if not is_model(found, name)]
                sentence = f"no route, node or model {node.name!r} in {found.file.name} and {found.repository}"
                yield f"{place}: {sentence}; {hint(node.name, [*names, *models])}"
            elif node.version and (end := single(node, found.graphs)) is not None:
                assert isinstance(end, Ref)  # the steps are parts by now
                yield from version(place, behind.get(end.name, end.name), node.version, versions)


def is_model(found: Service, name: str) -> bool:
    """Whether a reference is one to a model, as nothing in listener.yaml has that name."""
    return name not in found.graphs and (name not in found.steps or not found.steps[name].at)


def version(place: str, model: str, wanted: str, versions: Versions) -> Iterator[str]:
    """A sentence where a model is known not to have a version."""
    present, loaded = versions.get(model, ([], []))
    if not present or wanted in loaded:
        return
    if wanted in present:
        policy = f"Triton does not load version {wanted} of model {model!r}, because of its version_policy"
        yield f"{place}: {policy}; it loads {', '.join(loaded)}; with version_policy {{ all {{ }} }} it loads all"
    else:
        yield f"{place}: model {model!r} has no version {wanted}; it has {', '.join(loaded)}"


def hint(name: str, known: Collection[str]) -> str:
    """What may have been meant, and what there is."""
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, known, n=1)
    found = f"found are {', '.join(known)}" if known else "it is empty"
    return f"did you mean {near[0]!r}? {found[0].upper()}{found[1:]}" if near else found
