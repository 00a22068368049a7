"""What `listener deploy` does, without its options."""

from __future__ import annotations

import dataclasses
import logging
import sys

from listener import observe
from listener import settings as settings_table
from listener.errors import ConfigError
from listener.service import Service
from listener.tools.deploy import documents, gcloud, legacy, printed, request, vertex
from listener.tools.deploy.schemas import Schemas
from listener.tools.deploy.wanted import Options, Wanted, checked

#: Of a program that was interrupted.
_INTERRUPTED = 130
#: Each repetition and each page would be a line of theirs.
_TALKATIVE = ("googleapiclient", "google.auth", "google_auth_httplib2", "urllib3")


def to_vertex(given: Options, service: Service, *, is_dry: bool, address: str) -> int:
    """Prints the requests, or sends them and follows what they set off.

    Args:
        given: the options.
        service: what is deployed.
        is_dry: print only.
        address: of the API, in the stead of the region's own.

    Returns:
        The exit status.

    Raises:
        ConfigError: something is wrong with the options, or went wrong; a sentence each.
    """
    document = documents.load("aiplatform.v1")
    wanted = checked(given, service, documents.regions(document))
    requests = vertex.requests(wanted)
    request.require_right(requests, Schemas(document))
    if is_dry:
        print(printed.vertex(wanted, requests, gcloud.vertex_commands(wanted, requests)), end="")
        return 0
    return _sent(wanted, address)


def to_legacy(given: Options, service: Service, *, is_dry: bool) -> int:
    """Prints the requests for AI Platform Prediction. Arguments, result and errors as of `to_vertex`."""
    if not is_dry:
        raise ConfigError(legacy.GONE)
    if not given.machine_type and not given.accelerator:
        given = dataclasses.replace(given, accelerator="T4")
    wanted = checked(given, service, documents.regions(documents.load("aiplatform.v1")), legacy=True)
    requests = legacy.requests(wanted)
    request.require_right(requests, Schemas(documents.load("ml.v1")))
    print(printed.legacy(requests, gcloud.legacy_commands(wanted)), end="")
    return 0


def _sent(wanted: Wanted, address: str) -> int:
    from listener.tools.deploy import rollout, shown
    from listener.tools.deploy.calls import Api

    configured = settings_table.read()
    observe.set_up(configured.log_level, configured.triton_log_level, configured.log_format, sys.stderr)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    progress = shown.at(sys.stderr, observe.for_people(configured.log_format, sys.stderr))
    run = None
    try:
        run = rollout.Rollout(wanted, Api(wanted.project, wanted.region, address, progress.say), progress)
        summary = run.run()
    except ConfigError as error:
        left = rollout.sentences(run.left, wanted) if run else []
        raise ConfigError(*error.mistakes, *left) from None
    except KeyboardInterrupt:
        progress.close()
        for sentence in ["stopped", *(rollout.sentences(run.left, wanted) if run else [])]:
            print(f"listener: {sentence}", file=sys.stderr)
        return _INTERRUPTED
    finally:
        progress.close()
    print(summary)
    return 0
