"""What is looked at beside the answers."""

from __future__ import annotations

import itertools
import json
import math
import time

import pytest

from listener.errors import ConfigError
from listener.tools.load import observing
from listener.tools.load.exposition import Between
from listener.tools.load.observing import Observer
from tests.http_server import Answering, serving


class Metrics(Answering):
    scrapes = itertools.count()

    def do_GET(self) -> None:
        count = next(self.scrapes)
        text = f"nv_inference_count {count * 8}\nnv_inference_exec_count {count * 2}\nnv_gpu_utilization 0.5\n"
        self.answer(200, text.encode(), "text/plain")


def test_a_step_is_what_was_between_two_looks() -> None:
    with serving(Metrics) as url:
        observer = Observer("http://127.0.0.1:1/predict", f"{url}/metrics")
        observer.begin()
        time.sleep(0.1)  # the kernel counts CPU in hundredths of a second
        seen = observer.end()
    assert seen.metrics.batch == 4
    assert 0 <= seen.cpu <= 1
    assert seen.metrics.gpus == {"GPU 0": 0.5}
    assert observer.is_here
    assert observer.cpu_of.startswith("this machine")


def test_a_target_elsewhere_without_metrics_has_no_cpu() -> None:
    observer = Observer("https://example.org/predict", "")
    observer.begin()
    assert math.isnan(observer.end().cpu)
    assert (observer.metrics, observer.cpu_of, observer.is_here) == ("", "", False)


def test_metrics_that_go_away_leave_a_step_without() -> None:
    with serving(Metrics) as url:
        observer = Observer("http://127.0.0.1:1/predict", f"{url}/metrics")
        observer.begin()
    assert math.isnan(observer.end().metrics.batch)


def test_metrics_that_were_named_have_to_be_there() -> None:
    with pytest.raises(ConfigError, match=r"--metrics http://127.0.0.1:1/m: no metrics there"):
        Observer("http://127.0.0.1:1/predict", "http://127.0.0.1:1/m")


def test_what_was_seen_can_be_written_and_read() -> None:
    seen = observing.Seen(Between(phases={"queue": 1.0}, batch=2.0), 0.5)
    again = observing.of_json(json.loads(json.dumps(observing.as_json(seen))))
    assert (again.metrics.phases, again.metrics.batch, again.cpu) == ({"queue": 1.0}, 2.0, 0.5)
