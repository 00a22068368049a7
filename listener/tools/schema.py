"""`listener schema`: one instance, the parameters and one prediction, as the three files of Vertex's `predictSchemata`.

Told from a service, from a model repository alone, or from a listener that runs.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import yaml

from listener import importing, loader
from listener.contract import composed, described, openapi
from listener.contract import schema as schemas
from listener.contract.schema import Schema
from listener.contract.served import Served
from listener.errors import ConfigError, one_line
from listener.handler import Handler
from listener.nodes import Ref, within
from listener.service import Route, Service
from listener.tensors import ModelSpec
from listener.tools import ask, checks, handler_checks, repository


@dataclass(frozen=True, slots=True)
class Schemata:
    """Schema Objects of OpenAPI 3.0.2 that stand by themselves, by the name of their file."""

    model: str
    instance: Schema
    parameters: Schema
    prediction: Schema

    def files(self) -> dict[str, str]:
        """The YAML of each file."""
        about = f"of {one_line(self.model)}; a Schema Object of OpenAPI 3.0.2"
        return {
            "instance.yaml": _yaml(f"One instance {about}", self.instance),
            "parameters.yaml": _yaml(f"The parameters of a request {about}", self.parameters),
            "prediction.yaml": _yaml(f"One prediction {about}", self.prediction),
        }


def of_service(found: Service, name: str | None) -> Schemata:
    """What a handler declares, or the model's configuration says, or its ONNX file where there is none.

    Args:
        found: a service, or a model repository alone.
        name: a route, or a model of the repository; None = what a request gets that names none.

    Raises:
        ConfigError: something is wrong or missing.
    """
    found = importing.expanded(found)
    place = str(found.file if found.file.exists() else found.repository)
    default = found.default or _only_model(found)
    if name is None:
        if not default:
            raise ConfigError(_choose(repository.names(found.repository), place))
        name = default
    if name in found.graphs and name in found.choices:
        steps = {step: _step(found, route, place) for step, route in found.steps.items() if step in _used(found, name)}
        told = composed.served(name, found.graphs, steps)
    else:
        told = _step(found, found.routes.get(name, Route(name)), place)
    told = replace(told, alone=name in found.alone)
    named = schemas.elements(told.datatypes)
    parts = (told.instance, told.parameters(name == default), told.prediction)
    return Schemata(name, *(schemas.resolved(schema, named) for schema in parts))


def _used(found: Service, name: str) -> set[str]:
    """The names of everything that stands within a route of several steps."""
    refs = {each.name for each in within(found.graphs[name].node) if isinstance(each, Ref)}
    return refs.union(*(_used(found, each) for each in refs if each in found.graphs))


def _step(found: Service, route: Route, place: str) -> Served:
    name, handler = route.name, _handler(found, route)
    model = loader.model_name(route, handler)
    told = described.served(name, handler, name if model is None else model)
    if model is None:
        return told
    if told.instance_schema is not None and told.prediction_schema is not None:
        return told
    models = repository.names(found.repository)
    if model not in models:
        where = f"{found.file}:{route.line_of('model')}: routes.{name}.model" if route.line else place
        raise ConfigError(_unknown(model, models if route.line else [*found.choices, *models], where))
    return described.served(name, handler, model, _spec(found.repository / model))


def _only_model(found: Service) -> str:
    """The model that is served where nothing else is and nothing says a default."""
    models = [] if found.routes else repository.names(found.repository)
    return models[0] if len(models) == 1 else ""


def _handler(found: Service, route: Route) -> type[Handler]:
    mistakes: list[str] = []
    handler = handler_checks.import_class(found, route, mistakes)
    if handler is None:
        raise ConfigError(*mistakes)
    return handler


def _spec(path: Path) -> ModelSpec:
    """The tensors of the model in a folder, without Triton."""
    if (missing := checks.missing_extra("schema")) is not None:
        raise ConfigError(missing)
    from listener.tools import agreement, model_config

    mistakes: list[str] = []
    found = repository.read(path, mistakes)
    signatures = checks.signatures(found, mistakes) if found is not None else []
    spec = agreement.spec(path.name, found.config, signatures[-1] if signatures else None) if found else None
    if spec is not None:
        return spec
    if mistakes:
        raise ConfigError(*map(one_line, mistakes))
    file = path / model_config.FILE
    what = "does not declare name, data_type and dims of every input and output" if file.exists() else "does not exist"
    hint = f"write them there, or ask a listener that runs: --url URL --model {path.name}"
    raise ConfigError(one_line(f"{file}: {what}, and nothing else tells the tensors of {path.name!r}; {hint}"))


def of_listener(url: str, name: str | None, timeout: float) -> Schemata:
    """What a running listener says in its /openapi.json.

    Args:
        url: of the listener, or of the document.
        name: one of the things that it serves; None = the default, or the only one.
        timeout: seconds to wait for the answer.

    Raises:
        ConfigError: no answer, another answer, or nothing of that name.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url {one_line(url)!r} is not a URL such as http://127.0.0.1:8080")
    url = url if url.endswith(".json") else f"{url.rstrip('/')}/openapi.json"
    status, body = ask.get(url, timeout)
    if status != 200:
        raise ConfigError(f"{url}: answered {status}: {one_line(body)}")
    try:
        return _from_document(orjson.loads(body), name, url)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{url}: is not the OpenAPI document of a listener ({type(error).__name__})") from None


def _from_document(document: Mapping[str, Any], name: str | None, url: str) -> Schemata:
    listed, named = document[openapi.EXTENSION], document["components"]["schemas"]
    served, default = listed["served"], listed["default"]
    if name is None and default is None and len(served) != 1:
        raise ConfigError(_choose(served, url))
    if name is None:
        name = default or next(iter(served))
    if name not in served:
        raise ConfigError(_unknown(name, served, url))
    parts = served[name]
    found = (schemas.resolved(parts[part], named) for part in ("instance", "parameters", "prediction"))
    return Schemata(name, *found)


def _choose(names: Iterable[str], place: str) -> str:
    found = ", ".join(names)
    return f"{place}: serves {found}; choose one with --model" if found else f"{place}: has no model"


def _unknown(name: str, names: Iterable[str], place: str) -> str:
    known = list(dict.fromkeys(names))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known) or 'none'}"
    return one_line(f"{place}: no model {name!r}; {hint}")


class _Dumper(yaml.SafeDumper):
    """Without anchors, which need not be understood by whoever reads the files."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(title: str, schema: Schema) -> str:
    return f"# {title}.\n{yaml.dump(schema, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)}"


def write(schemata: Schemata, folder: Path) -> None:
    """Writes the three files into a folder, which is made if it is not there.

    Raises:
        ConfigError: that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in schemata.files().items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None


def stream(schemata: Schemata) -> str:
    """All three as one YAML stream: instance, parameters, prediction."""
    return "".join(f"---\n{text}" for text in schemata.files().values())


def next_step(folder: Path) -> str:
    """What to do with the files."""
    parts = ("instance", "parameters", "prediction")
    paths = " ".join(shlex.quote(str(folder / f"{part}.yaml")) for part in parts)
    uris = {f"{part}SchemaUri": f"gs://BUCKET/schemata/{part}.yaml" for part in parts}
    body = orjson.dumps({"predictSchemata": uris}, option=orjson.OPT_INDENT_2).decode()
    return f"""Wrote {paths}

Copy them to Cloud Storage:

  gcloud storage cp {paths} gs://BUCKET/schemata/

and name them in the "model" of models:upload. (`gcloud ai models upload` has no flag for them; the Python SDK's
Model.upload has instance_schema_uri and so on.) A model that has been uploaded keeps them as they are.

{body}"""
