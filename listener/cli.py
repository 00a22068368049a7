"""The command line: `listener new|up|serve|triton|fetch|health|predict|check|graph|schema|settings`.

Options that are settings come from the table in `settings.py`, with its help text; each is an environment variable too.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from listener import __version__, observe, probe
from listener import settings as settings_table
from listener.artifacts import choice
from listener.errors import ConfigError
from listener.settings import Settings, as_text, env_name

F = TypeVar("F", bound=Callable[..., Any])

_FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
_LOGGING = ("log_level", "log_format", "triton_log_level")
_PLACE = ("service", "repository", "storage_uri", "default_model")
_LISTENING = ("host", "port", "predict_route", "health_route")
_SERVING = (
    *_PLACE,
    "artifacts",
    "workers",
    "threads",
    "processes",
    "max_body",
    "compress_from",
    "max_requests",
    "not_coalesced",
    "busy_wait",
    "timeout",
    "drain_timeout",
    "reload",
)
_TRITON = ("triton_bin", "triton_args", "triton_exit_timeout")


def options(*names: str) -> Callable[[F], F]:
    """Adds settings as options of a command."""

    def decorate(command: F) -> F:
        for name in reversed(names):
            field = _FIELDS[name]
            note = f"{field.metadata['help']} [env: {env_name(field)}; default: {as_text(field.default) or 'none'}]"
            form: dict[str, Any] = {"is_flag": True} if isinstance(field.default, bool) else {"metavar": "VALUE"}
            command = click.option(f"--{name.replace('_', '-')}", name, default=None, help=note, **form)(command)
        return command

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="listener")
def cli() -> None:
    """A listener in front of NVIDIA Triton: instances in, predictions out.

    A service is a folder with listener.yaml, handlers/ and triton_repo/. `listener up` runs all of it here.
    """


@cli.command()
@click.argument("name")
@click.option("--in", "within", metavar="DIR", default=".", help="Where the folder is made; default: here.")
@click.option("--model", metavar="FILE", help="An ONNX file, which is copied; default: a model that names colours.")
def new(name: str, within: str, model: str | None) -> None:
    """Make a small service that works, in a new folder NAME.

    A handler, a model, their configuration and a test: around the model of --model, or to be changed into yours.
    Nothing that is there is overwritten.
    """
    from listener.tools import scaffold

    click.echo(scaffold.make(name, Path(within), None if model is None else Path(model)).next_steps())


@cli.command()
@options(*_LISTENING, *_SERVING, *_TRITON, *_LOGGING)
def up(**given: Any) -> None:
    """Run Triton and the listener in the foreground.

    Triton takes free ports on 127.0.0.1 and is restarted when it dies. Ctrl-C or SIGTERM drains and stops everything; a
    second one forces.
    """
    from listener import reload, workers
    from listener.triton import installation
    from listener.triton.server import TritonServer

    configured = reload.prepared(_configure(given))
    repository = None if configured.reload else _repository(configured)
    triton = TritonServer(installation.find(configured.triton_bin), repository, configured, free_ports=True)
    sys.exit(workers.serve(configured, triton, _announce))


@cli.command()
@options(*_LISTENING, *_SERVING, "triton_url", "triton_metrics_url", *_LOGGING)
def serve(**given: Any) -> None:
    """Run the listener alone; its Triton runs elsewhere."""
    from listener import reload, workers

    configured = reload.prepared(_configure(given))
    if configured.fetches and not configured.triton_is_here:
        raise ConfigError(
            f"{configured.place}: is fetched by the `listener triton` that runs on the same machine, and Triton is at "
            f"{configured.triton_url}; give `listener serve` a folder in LISTENER_REPOSITORY"
        )
    if not configured.reload:
        choice.here(configured)
    sys.exit(workers.serve(configured, None, _announce))


@cli.command()
@options(*_PLACE, "artifacts", "triton_url", "triton_metrics_url", *_TRITON, *_LOGGING)
def triton(**given: Any) -> None:
    """Run tritonserver with the right flags as the only child.

    Signals are forwarded, the exit status is passed on, and each of its log lines becomes one of ours. This is what the
    image's supervisord runs. Its HTTP port is the one of --triton-url, on 127.0.0.1. A repository in Cloud Storage is
    fetched before, for the `listener serve` beside it as well.
    """
    from listener import workers
    from listener.artifacts.delivery import Delivery
    from listener.triton import installation
    from listener.triton.server import TritonServer

    configured = _configure(given)
    repository = _repository(configured)
    server = TritonServer(installation.find(configured.triton_bin), repository, configured, free_ports=False)
    delivery = None if repository else Delivery(dataclasses.replace(configured, triton_url=server.url))
    sys.exit(asyncio.run(workers.run_triton(server, delivery)))


@cli.command()
@click.argument("uri", metavar="gs://BUCKET/PREFIX")
@click.argument("folder", metavar="DIR")
@click.option("--dry-run", "is_dry", is_flag=True, help="List what would be fetched, and write nothing.")
def fetch(uri: str, folder: str, is_dry: bool) -> None:
    """Fetch models, or a service, from Cloud Storage into a folder.

    DIR becomes what lies there now, all of it at one moment, or stays as it was. A second run fetches what has changed.
    What `listener up` could not serve is refused.
    """
    from listener.artifacts import delivery

    delivery.fetch_into(uri, folder, is_dry)


@cli.command()
@options("host", "port", "health_route")
@click.option("--timeout", "seconds", default=5.0, show_default=True, help="Seconds to wait for the answer.")
def health(seconds: float, **given: Any) -> None:
    """Ask the listener on this machine whether it is ready.

    Exit status 0 if so, else 1. For HEALTHCHECK and exec probes.
    """
    configured = settings_table.read(**given)
    url = configured.local_url(configured.health_route)
    status, body = probe.get(url, seconds)
    click.echo(f"{status} {body}".strip() if status else f"no answer from {url}: {body}")
    sys.exit(0 if status == 200 else 1)


@cli.command()
@click.argument("source", metavar="FILE_OR_-")
@options("host", "port", "predict_route")
@click.option("--url", help="A listener, or its predict URL; default: the one on this machine.")
@click.option("--timeout", "seconds", default=60.0, show_default=True, help="Seconds to wait for the answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer's JSON even on a terminal.")
def predict(source: str, url: str | None, seconds: float, as_json: bool, **given: Any) -> None:
    """Send one request: a picture, or JSON.

    A picture is wrapped into {"b64": ...} by itself. JSON with "instances" is sent as it is; anything else becomes the
    one instance. Prints a table on a terminal and JSON in a pipe.
    """
    from listener.tools import ask

    configured = settings_table.read(**given)
    body = ask.request_body(ask.read_source(source))
    route = configured.predict_route
    asked = ask.predict_url(url, route) if url else configured.local_url(route)
    status, answer = ask.post(asked, body, seconds)
    people = sys.stdout.isatty() and not as_json
    click.echo(ask.for_people(answer) if people and status == 200 else answer, err=status != 200)
    sys.exit(0 if status == 200 else 1)


@cli.command()
@options(*_PLACE)
def check(**given: Any) -> None:
    """Check listener.yaml, the handlers and the models.

    Without opening a port. Every mistake is one sentence with its place; exit status 1 if there is any.
    """
    from listener.tools import checks

    configured = settings_table.read(**given)
    mistakes = checks.of(lambda: choice.local(configured)) + settings_table.misspelt()
    for mistake in mistakes:
        click.echo(mistake)
    if mistakes:
        click.echo(f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}", err=True)
        sys.exit(1)
    click.echo("everything is in order")


@cli.command()
@options(*_PLACE)
@click.option("--route", metavar="NAME", default="", help="Draw this route or node alone, with all that it asks.")
@click.option("--out", metavar="FILE", help="Write a picture: .svg, .mmd or .md (Mermaid), or .txt (the tree).")
def graph(route: str, out: str | None, **given: Any) -> None:
    """Draw which route asks which handlers and models.

    Prints a tree, or writes a picture with --out. A model repository alone is drawn as well.
    """
    from listener.tools.drawing import files, tree

    write = files.writer(Path(out)) if out is not None else None
    picture = files.drawn(choice.local(settings_table.read(**given)), route)
    if out is None or write is None:
        click.echo(tree.text(picture, sys.stdout.encoding, styled=True, width=tree.width(sys.stdout)), nl=False)
        return
    click.echo(files.write(write(picture), Path(out)))


@cli.command()
@options(*_PLACE)
@click.option("--url", help="A listener that runs, such as http://127.0.0.1:8080, instead of files.")
@click.option("--model", metavar="NAME", help="A route or a model; default: what a request gets that names none.")
@click.option("--out", metavar="DIR", help="Write three files there, instead of printing.")
@click.option("--timeout", "seconds", default=10.0, show_default=True, help="Seconds to wait for --url.")
def schema(url: str | None, model: str | None, out: str | None, seconds: float, **given: Any) -> None:
    """Describe instances, parameters and predictions for Vertex.

    These are its predictSchemata: three Schema Objects of OpenAPI 3.0.2 in YAML, instance.yaml, parameters.yaml and
    prediction.yaml. They come from what the handler declares, else from the model's configuration or ONNX file.
    """
    from listener.tools import ask
    from listener.tools import schema as schemata

    if url is None:
        found = schemata.of_service(choice.local(settings_table.read(**given)), model)
    elif any(value is not None for value in given.values()):
        raise click.UsageError("--url asks a listener that runs, which has its own service and repository")
    else:
        found = schemata.of_listener(ask.base_url(url, settings_table.read().predict_route), model, seconds)
    if out is None:
        click.echo(schemata.stream(found), nl=False)
        return
    schemata.write(found, Path(out))
    click.echo(schemata.next_step(Path(out)))


@cli.command("settings")
def show_settings() -> None:
    """List every setting: its variable, its value here, what it does."""
    configured = settings_table.read()
    for name, field in _FIELDS.items():
        click.secho(f"{env_name(field)}={as_text(getattr(configured, name))}", bold=True)
        click.echo(f"    {field.metadata['help']}")


def _configure(given: dict[str, Any]) -> Settings:
    configured = settings_table.read(**given)
    observe.set_up(configured.log_level, configured.triton_log_level, configured.log_format)
    observe.warn_all("listener.settings", settings_table.misspelt())
    return configured


def _repository(configured: Settings) -> Path | None:
    """The model repository, or None where it has to be fetched first."""
    service = choice.here(configured)
    return choice.with_repository(service).repository if service else None


def _announce(configured: Settings) -> None:
    """What is served, and for a person at a terminal a line to try it."""
    try:
        service = choice.present(configured)
    except ConfigError:  # it was right when the workers read it, and is being edited
        return
    if service is None:  # what was fetched went in this moment, and so does everything else
        return
    url = configured.local_url(configured.predict_route)
    served = ", ".join(service.choices) or f"every model of {configured.place or service.repository}"
    if not observe.for_people(configured.log_format, sys.stdout):
        logging.getLogger("listener").info("ready: serving %s on %s", served, url)
        return
    click.echo(f"\nReady. Serving {served} on {url}")
    if sample := next(iter(sorted((service.folder / "examples").glob("*.png"))), None):
        path = shlex.quote(str(sample.relative_to(Path.cwd()) if sample.is_relative_to(Path.cwd()) else sample))
        click.echo("Try it:\n")
        click.echo(
            f"""  printf '{{"instances": [{{"b64": "%s"}}]}}' "$(base64 < {path} | tr -d '\\n')" | """
            f"curl -sS {url} -H 'Content-Type: application/json' -d @-"
        )
    click.echo("\nCtrl-C stops everything.\n")


def fail(error: ConfigError) -> NoReturn:
    """Says what is wrong, a sentence a line, and ends with status 1."""
    for mistake in error.mistakes:
        click.echo(f"listener: {mistake}", err=True)
    sys.exit(1)


def main() -> None:
    """Entry point of `listener` and `python -m listener`."""
    try:
        cli()
    except ConfigError as error:
        fail(error)


if __name__ == "__main__":
    main()
