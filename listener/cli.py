"""The command line: `listener new|up|serve|triton|init|fetch|health|predict|check|graph|schema|load|deploy|settings`.

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
    "metrics_host",
    "metrics_port",
    "workers",
    "threads",
    "processes",
    "max_body",
    "compress_from",
    "max_requests",
    "queue",
    "max_bytes",
    "route_share",
    "client_share",
    "not_coalesced",
    "busy_wait",
    "endpoint",
    "timeout",
    "drain_timeout",
    "server_timing",
    "access_log",
    "traces",
    "trace_share",
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
            word = name.replace("_", "-")
            flags = f"--{word}/--no-{word}" if field.default is True else f"--{word}"
            command = click.option(flags, name, default=None, help=note, **form)(command)
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
    _ports_apart(configured)
    if configured.fetches and not configured.triton_is_here:
        raise ConfigError(
            f"{configured.place}: is fetched by the `listener triton` that runs on the same machine, and Triton is at "
            f"{configured.triton_url}; give `listener serve` a folder in LISTENER_REPOSITORY"
        )
    if not configured.reload:
        choice.here(configured)
    sys.exit(workers.serve(configured, None, _announce))


@cli.command()
@click.option("--keep", is_flag=True, help="Start it again whenever it ends, as `up` does, beside a `serve`.")
@options(*_PLACE, "artifacts", "triton_url", "triton_metrics_url", *_TRITON, *_LOGGING)
def triton(keep: bool, **given: Any) -> None:
    """Run tritonserver with the right flags as the only child.

    Signals are forwarded, the exit status is passed on, and each of its log lines becomes one of ours. Its HTTP port is
    the one of --triton-url, on 127.0.0.1. A repository in Cloud Storage is fetched before, for the `listener serve`
    beside it as well. The image's supervisord runs it with --keep.
    """
    from listener import workers
    from listener.artifacts.delivery import Delivery
    from listener.triton import installation
    from listener.triton.server import TritonServer

    configured = _configure(given)
    _ports_apart(configured)
    repository = _repository(configured)
    server = TritonServer(installation.find(configured.triton_bin), repository, configured, free_ports=False)
    delivery = None if repository else Delivery(dataclasses.replace(configured, triton_url=server.url))
    sys.exit(asyncio.run(workers.run_triton(server, delivery, configured if keep else None)))


@cli.command()
@click.option("--config", metavar="FILE", default="/etc/supervisord.conf", show_default=True, help="Of supervisord.")
def init(config: str) -> None:
    """Run supervisord, as the first process of a container.

    Signals are handed on, orphans are reaped, and the exit status is 1 when a program is beyond help: supervisord's own
    is always 0. A second SIGTERM, SIGINT or SIGQUIT forces. Settings are taken from the environment alone.
    """
    from listener import init as first_process

    sys.exit(first_process.main(config))


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


@cli.command()
@options(*_PLACE)
def examples(**given: Any) -> None:
    """Print a request for each handler that has an example, one a line.

    They are whole bodies, as curl, Locust and `listener load --data` send them.
    """
    from listener.tools.load import bodies

    for text in bodies.of_service(settings_table.read(**given)).texts:
        click.echo(text)


@cli.command()
@click.argument("url", metavar="[PREDICT_URL]", required=False)
@click.option(
    "--data", metavar="FILE.jsonl", help="Bodies, one a line; default: examples of ./listener.yaml's handlers."
)
@click.option("--rate", type=float, metavar="N", help="Requests per second; default: look for the highest rate.")
@click.option("--slo-p99", default="50ms", show_default=True, metavar="TIME", help="What the p99 has to stay below.")
@click.option("--duration", default="30s", show_default=True, metavar="TIME", help="Of the whole run.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="Of requests; may be repeated.")
@click.option(
    "--token",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="auto: Application Default Credentials go to Google's own addresses.",
)
@click.option("--metrics", default="", metavar="URL", help="Of the target; default: its port 8003, if that answers.")
@click.option("--connections", type=click.IntRange(1), default=2000, show_default=True, help="At the most.")
@click.option("--timeout", "patience", default="10s", show_default=True, metavar="TIME", help="Of a request.")
@click.option("--html", default="load-report.html", show_default=True, metavar="FILE", help="The report.")
@click.option("--json", "json_file", metavar="FILE", help="Write every figure there, for --compare as well.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write a line for each step there.")
@click.option(
    "--compare", multiple=True, metavar="FILE.json", help="An earlier run beside this one; two, without a URL."
)
@click.option("--fail-on-slo", is_flag=True, help="Exit status 1 if no rate, or not the one given, keeps the SLO.")
def load(token: str, patience: str, json_file: str | None, csv_file: str | None, **given: Any) -> None:
    """Find the highest rate that keeps the SLO.

    Requests come as they do from many callers, whether others have been answered or not, and their time counts from
    when they were due. Writes a report: docs/capacity.md says what follows from it.
    """
    from listener.tools.load import command

    wanted = command.Options(token=token == "auto", timeout=patience, json=json_file, csv=csv_file, **given)
    try:
        status = command.run(wanted, sys.stderr)
    except ConfigError as error:
        fail(error, 2)
    sys.exit(status)


#: Of both targets of `listener deploy`; without defaults where one option says another.
_DEPLOYED = (
    click.option("--project", default="", metavar="ID", help="The project's id."),
    click.option("--region", default="", metavar="NAME", help="Where it runs, such as us-central1."),
    click.option("--image", default="", metavar="URI", help="The image in Artifact Registry."),
    click.option(
        "--artifact-uri", default="", metavar="gs://BUCKET/PREFIX", help="Models or a service beside the image."
    ),
    click.option("--name", default="", metavar="NAME", help="Of the model; default: listener.yaml's default route."),
    click.option("--machine-type", default="", metavar="TYPE", help="Default: a small one with the accelerator."),
    click.option(
        "--accelerator", default="", metavar="TYPE[:N]", help="Such as L4, T4:2 or none; default: the machine's."
    ),
    click.option("--min-replicas", type=int, default=1, show_default=True, help="Replicas that are always there."),
    click.option("--max-replicas", type=int, help="Replicas at most; default: --min-replicas."),
    click.option(
        "--target", type=int, default=60, show_default=True, help="Percent of the GPU's time that adds replicas."
    ),
    click.option("--service-account", default="", metavar="EMAIL", help="That the container runs as."),
    click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable of the container; may be repeated."),
    click.option("--dry-run", "is_dry", is_flag=True, help="Print requests and gcloud commands, and send nothing."),
)


def _deployed(command: F) -> F:
    for option in reversed(_DEPLOYED):
        command = option(command)
    return options("service")(command)


@cli.group()
def deploy() -> None:
    """Put a service on Google's platform.

    The image has to be in Artifact Registry already; docs/deploy.md begins before that. What is asked for is held
    against the platform's own rules first.
    """


@deploy.command("vertex")
@_deployed
@click.option("--shared-memory", type=int, default=1024, show_default=True, metavar="MB", help="Size of /dev/shm.")
@click.option(
    "--deployment-timeout",
    type=int,
    default=1800,
    show_default=True,
    metavar="S",
    help="Seconds until a replica is ready.",
)
@click.option("--timeout", type=int, metavar="S", help="Seconds for a request, here and in the listener.")
@click.option("--spot", is_flag=True, help="On machines that are cheaper and may be taken away.")
@click.option("--api-endpoint", "address", default="", metavar="URL", help="Another address of the API.")
def deploy_vertex(service: str | None, is_dry: bool, address: str, **given: Any) -> None:
    """Upload the model, create a dedicated endpoint and deploy it there.

    It costs money from then on. What is there already, from a run that did not end, is taken up.
    """
    from listener.tools.deploy import command
    from listener.tools.deploy.wanted import Options

    served = choice.local(settings_table.read(service=service))
    sys.exit(command.to_vertex(Options(**given), served, is_dry=is_dry, address=address))


@deploy.command("legacy")
@_deployed
@click.option("--version", default="v1", show_default=True, metavar="NAME", help="Of the model.")
def deploy_legacy(service: str | None, is_dry: bool, **given: Any) -> None:
    """Print what AI Platform Prediction would be asked for.

    That product is gone, and its contract is kept here as a form of its own; so only --dry-run does something.
    """
    from listener.tools.deploy import command
    from listener.tools.deploy.wanted import Options

    sys.exit(command.to_legacy(Options(**given), choice.local(settings_table.read(service=service)), is_dry=is_dry))


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


def _ports_apart(configured: Settings) -> None:
    """Told before either of the two programs finds the port taken by the other one."""
    mistakes = settings_table.clashes(configured)
    if mistakes:
        raise ConfigError(*mistakes)


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


def fail(error: ConfigError, status: int = 1) -> NoReturn:
    """Says what is wrong, a sentence a line, and ends."""
    for mistake in error.mistakes:
        click.echo(f"listener: {mistake}", err=True)
    sys.exit(status)


def main() -> None:
    """The command line; `__main__.py` begins it."""
    try:
        cli()
    except ConfigError as error:
        fail(error)
