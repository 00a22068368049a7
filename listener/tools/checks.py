"""`listener check`: everything about a service that can be checked without starting anything.

listener.yaml, the handlers, the layout of the model repository, and each config.pbtxt against its ONNX file, or against
what a TorchScript model needs. One mistake does not hide the others.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from listener import importing, loader, service
from listener.errors import ConfigError, one_line
from listener.service import Service
from listener.tensors import ModelSpec
from listener.tools import graph_checks, handler_checks, repository

if TYPE_CHECKING:  # needs the extra `tools`, which may be missing
    from listener.tools import onnx_model

Specs = dict[str, ModelSpec | None]


@dataclass
class Models:
    """What the repository has.

    Attributes:
        specs: of each model; None = its tensors are not known here.
        versions: those in the folder of each model, and those of them that Triton loads; without models of which
            that is not known.
    """

    specs: Specs
    versions: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)


def run(folder: Path) -> list[str]:
    """Checks the service in `folder`; a sentence per mistake, each with file and line or field, in a fixed order."""
    return of(lambda: service.read(folder))


def of(find: Callable[[], Service]) -> list[str]:
    """The same for the service that a function finds."""
    try:
        found = find()
    except ConfigError as error:
        rest = error.rest if isinstance(error, service.Wrong) else None
        mistakes = [*error.mistakes, *(_check(rest) if rest else ())]
    else:
        mistakes = _check(found)
    return [one_line(mistake) for mistake in dict.fromkeys(mistakes)]


def _check(found: Service) -> list[str]:
    found, in_python = _expanded(found)
    in_repository, models = _check_repository(found)
    specs = models.specs if models else None
    behind: dict[str, str] = {}
    mistakes = [*_check_default(found, specs), *_check_routes(found, models, behind), *graph_checks.functions(found)]
    if models:
        mistakes += graph_checks.references(found, behind, models.specs, models.versions)
    return in_python + mistakes + in_repository


def _expanded(found: Service) -> tuple[Service, list[str]]:
    """With what its Python composes, as far as that can be had, and what is wrong with it."""
    try:
        with handler_checks.quiet():
            return importing.expanded(found), []
    except ConfigError as error:
        return found, list(error.mistakes)


def _check_repository(found: Service) -> tuple[list[str], Models | None]:
    """Mistakes and the models that are there; None for these where that cannot be told."""
    try:
        models = repository.names(found.repository)
    except ConfigError:
        return [f"{_place(found)}repository: {found.repository} is not a folder that can be read"], None
    missing = missing_extra("check")
    if missing:
        return [missing], Models(dict.fromkeys(models))
    mistakes: list[str] = []
    made = Models({})
    for name in models:
        made.specs[name] = _check_model(found.repository / name, models, mistakes, made.versions)
    return mistakes, made


def missing_extra(command: str) -> str | None:
    """A sentence where the extra `tools` is not installed, without which a command reads no model."""
    try:
        for module in ("onnx", "google.protobuf.text_format", "tritonclient.grpc.model_config_pb2"):
            importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # tritonclient.grpc raises RuntimeError where grpc is missing
        what = "is not checked" if command == "check" else "cannot be read"
        return f"the model repository {what}: it needs pip install 'triton-listener[tools]' ({error})"
    return None


def _check_model(
    path: Path, models: list[str], mistakes: list[str], versions: dict[str, tuple[list[str], list[str]]]
) -> ModelSpec | None:
    from listener.tools import agreement, model_config, torchscript

    try:
        found = repository.read(path, mistakes)
    except ConfigError as error:
        mistakes += error.mistakes
        return None
    if found is None:
        return None
    versions[path.name] = list(found.present), list(found.loaded)
    found_in_files = signatures(found, mistakes)
    latest = found_in_files[-1] if found_in_files else None
    batch = agreement.max_batch_size(found.config, found.backend, latest)
    mistakes += model_config.check(found.config, path.name, batch)
    mistakes += model_config.check_steps(found.config, models)
    for signature in found_in_files:
        mistakes += agreement.check(found.config, signature)
    if found.backend == "pytorch" and found.config.path.exists() and found.config.message.platform != "torch_aoti":
        mistakes += torchscript.check(found.config)
    spec = agreement.spec(path.name, found.config, latest)
    if spec is not None:
        mistakes += agreement.check_padding(found.config, spec)
    return spec


def signatures(found: repository.ModelFolder, mistakes: list[str]) -> list[onnx_model.Signature]:
    """What the ONNX files of a model take and give, oldest version first."""
    from listener.tools import onnx_model

    read = []
    for file in found.files if found.backend == "onnxruntime" else ():
        try:
            read.append(onnx_model.read(file, mistakes))
        except ConfigError as error:
            mistakes += error.mistakes
    return read


def _check_default(found: Service, specs: Specs | None) -> Iterator[str]:
    """Where no route has the name of the default, it is that of a model."""
    route = found.routes.get(found.default)
    is_route = found.default in found.graphs or (route is not None and route.line > 0)
    if found.default and not is_route and specs is not None and found.default not in specs:
        sentence = f"the default {found.default!r} is neither a route nor a model in {found.repository}"
        known = [*(name for name in found.choices if name != found.default), *specs]
        yield f"{_place(found, found.default_line)}{sentence}; {graph_checks.hint(found.default, known)}"


def _place(found: Service, line: int = 0) -> str:
    """Where a mistake lies that may have no line; a model repository alone has no listener.yaml."""
    place = f"{found.file}:{line}" if line else str(found.file)
    return f"{place}: " if found.file.exists() else ""


def _check_routes(found: Service, models: Models | None, behind: dict[str, str]) -> Iterator[str]:
    """Handlers, models and versions of routes and parts; `behind` gets the model of each."""
    once = importing.Once()
    for route in (route for route in found.steps.values() if route.at):
        mistakes: list[str] = []
        handler = handler_checks.import_class(found, route, mistakes)
        name = route.model if handler is None else loader.model_name(route, handler)
        if name is not None:
            behind[route.name] = name
        if name is not None and models is not None and name not in models.specs:
            hint = graph_checks.hint(name, models.specs)
            place = f"{found.file}:{route.line_of('model')}: {route.field}.model"
            mistakes.append(f"{place}: no model {name!r} in {found.repository}; {hint}")
        elif handler is not None:
            mistakes += handler_checks.check(found, route, handler, models.specs if models else {})
        if name is not None and models is not None and route.version:
            place = f"{found.file}:{route.line_of('version')}: {route.field}.version"
            mistakes += graph_checks.version(place, name, route.version, models.versions)
        yield from once(route, mistakes)
