"""Users of a listener, or of an endpoint on Vertex AI, who ask again as soon as they have their answer.

Everything that can be set, and what the figures mean: docs/load-testing.md.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

from locust import FastHttpUser, LoadTestShape, events, task
from locust.contrib.fasthttp import LocustBadStatusCode
from locust.env import Environment
from locust.runners import WorkerRunner

# whatever folder Locust is started in; without following links, as those of a ConfigMap lead into another folder
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from loadtest import asking, shapes, tokens

SAMPLE = Path(__file__).with_name("digits.jsonl")
ROUTE = os.environ.get("PREDICT_ROUTE") or "/predict"
TOKEN = os.environ.get("TOKEN", "")

try:
    BODIES = itertools.cycle(asking.read(Path(os.environ.get("BODIES") or SAMPLE)))
    STAGES = shapes.stages(os.environ)
except asking.Mistake as wrong:
    sys.exit(f"loadtest: {wrong}")


@functools.cache
def tokens_for(url: str) -> tokens.Tokens:
    return tokens.Tokens(TOKEN, default=tokens.is_google(url))


class Caller(FastHttpUser):
    """Sends the bodies one after the other, which all users share, over one connection."""

    host = "http://127.0.0.1:8080"
    insecure = False  # Locust's default trusts any certificate, and a token may be sent

    @task
    def predict(self) -> None:
        url, body = asking.predict_url(str(self.host), ROUTE), next(BODIES)
        with self.client.post(
            url,
            name=urllib.parse.urlsplit(url).path,
            data=body.content,  # type: ignore[arg-type]  # bytes are sent as they are
            headers={
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",  # unpacking would be this machine's work
                **tokens_for(url).headers(),
            },
            allow_redirects=False,  # an answer from elsewhere is none, and the token is not for others
            catch_response=True,
        ) as response:
            error = response.request_meta["exception"]
            if error is not None and not isinstance(error, LocustBadStatusCode):
                response.failure(asking.no_answer(error))
                time.sleep(1)  # what is not there need not be asked a thousand times a second
            elif wrong := asking.mistake(response.status_code, response.content or b"", body.instances):
                response.failure(wrong)


if STAGES:

    class Shape(LoadTestShape):
        """The one that `SHAPE` names."""

        def tick(self) -> tuple[int, float] | None:
            users = shapes.users_at(STAGES, self.get_run_time())
            # a spike comes, and goes, within a second
            return None if users is None else (users, max(stage.users for stage in STAGES))


@events.init.add_listener
def before_the_first_request(environment: Environment, **_: Any) -> None:
    """Looks for a token where the host is known by now; one that the web page names later is told by its 401."""
    time.sleep(0)  # gevent looks at the clock, or -t would count from before all the imports
    try:
        tokens_for(asking.predict_url(environment.host or Caller.host, ROUTE))
    except asking.Mistake as wrong:
        sys.exit(f"loadtest: {wrong}")


@events.quitting.add_listener
def after_the_last(environment: Environment, **_: Any) -> None:
    """Locust calls a test good in which every user still waits for its first answer."""
    options = environment.parsed_options
    if options is None or not options.headless or isinstance(environment.runner, WorkerRunner):
        return
    if environment.stats.total.num_requests == 0:
        logging.error("not one answer came")
        environment.process_exit_code = 1
