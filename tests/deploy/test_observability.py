"""The compose profile `observability`: its files fit each other, and its graphs show what a real Triton tells."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from listener import probe
from tests.integration.stack import ROOT, free_port, running, wait_for
from tests.integration.test_metrics import samples

FOLDER = ROOT / "deploy/observability"
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PICTURE = [[0, 16] * 32]
#: Only on a GPU: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
GPU = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"}
#: Added by Prometheus: https://prometheus.io/docs/concepts/jobs_instances/
BY_PROMETHEUS = {"up"}
#: Words of PromQL that stand in the queries.
WORDS = {
    *{"sum", "by", "rate", "model", "reason", "job", "listener", "__rate_interval", "histogram_quantile"},
    *{"le", "phase", "status", "state", "busy", "route", "branch"},
}


def dashboard() -> dict[str, Any]:
    found = json.loads((FOLDER / "grafana/listener.json").read_text())
    assert isinstance(found, dict)
    return found


def mounted(service: str) -> dict[str, Path]:
    """By the path in the container, the file here."""
    volumes = [volume.removesuffix(":ro").split(":") for volume in SERVICES[service]["volumes"]]
    return {inside: ROOT / here for here, inside in volumes}


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_what_is_mounted_is_there_and_read_only(service: str) -> None:
    assert all(volume.endswith(":ro") for volume in SERVICES[service]["volumes"])
    assert [path for path in mounted(service).values() if not path.is_file()] == []
    assert SERVICES[service]["profiles"] == ["observability"]


def test_prometheus_asks_the_images_port_by_compose_s_name() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    (port,) = set(re.findall(r"LISTENER_METRICS_PORT=(\d+)", (ROOT / "Dockerfile").read_text()))
    assert job["static_configs"] == [{"targets": [f"listener:{port}"]}]
    assert SERVICES["listener"]["environment"]["LISTENER_METRICS_HOST"] == "0.0.0.0"


def test_grafana_has_its_data_and_its_dashboard() -> None:
    files = mounted("grafana")
    (source,) = yaml.safe_load((FOLDER / "grafana/datasources.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((FOLDER / "grafana/dashboards.yml").read_text())["providers"]
    assert f"{provider['options']['path']}/listener.json" in files
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in files
    assert {panel["datasource"]["uid"] for panel in dashboard()["panels"]} == {source["uid"]}


def test_panels_have_places_of_their_own_and_say_what_they_show() -> None:
    panels = dashboard()["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len(panels)
    assert [panel["title"] for panel in panels if not panel["description"]] == []


#: Without a GPU there are no samples of these.
_NO_SAMPLES_HERE = {"GPU busy", "GPU memory"}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[Any]]]:
    """Debian's Prometheus, which has looked at a real listener under load for some seconds; asks it a query."""
    folder = tmp_path_factory.mktemp("prometheus")
    port, web = free_port(), free_port()
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / "alerts.yml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    words = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with running(folder / "log", LISTENER_METRICS_PORT=str(port), LISTENER_WORKERS="2") as stack:
        stack.until(200)
        with (folder / "prometheus.log").open("w") as log:
            process = subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{web}"], stdout=log, stderr=log)
            try:
                wait_for(lambda: _is_ready(web), 20, (folder / "prometheus.log").read_text)
                end = time.monotonic() + 12
                while time.monotonic() < end:
                    assert stack.predict(PICTURE).status_code == 200
                    assert stack.predict([["no numbers"]]).status_code == 400
                yield lambda query: _asked(web, query)
            finally:
                process.terminate()
                process.wait(20)


def _is_ready(web: int) -> bool:
    return probe.get(f"http://127.0.0.1:{web}/-/ready", 1.0)[0] == 200


def _asked(web: int, query: str) -> list[Any]:
    told = requests.get(f"http://127.0.0.1:{web}/api/v1/query", params={"query": query}, timeout=10).json()
    assert told["status"] == "success", (query, told)
    found: list[Any] = told["data"]["result"]
    return found


@pytest.mark.triton
def test_each_panel_has_samples_of_a_real_listener(prometheus: Callable[[str], list[Any]]) -> None:
    """Asked as Grafana asks, with an interval in the place of its variable; a number, and not NaN."""
    wrong = []
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            found = prometheus(target["expr"].replace("$__rate_interval", "8s"))
            numbers = [sample["value"][1] for sample in found]
            if (not numbers or set(numbers) == {"NaN"}) and panel["title"] not in _NO_SAMPLES_HERE:
                wrong.append((panel["title"], target["expr"], found))
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            wrong += [(panel["title"], target["expr"], [one]) for one in found if not labels <= one["metric"].keys()]
    assert wrong == []


@pytest.mark.triton
def test_each_rule_is_evaluated_over_a_real_listener(prometheus: Callable[[str], list[Any]]) -> None:
    """Each recorded ratio is there, and each side of each alert's comparison has a sample; none of them fires."""
    rules = [rule for group in _rules() for rule in group["rules"]]
    recorded = [rule["record"] for rule in rules if "record" in rule]
    alerts = [rule for rule in rules if "alert" in rule]
    assert (len(recorded), len(alerts)) == (4, 6)
    assert [name for name in recorded if [float(one["value"][1]) for one in prometheus(name)] != [0.0]] == []
    for rule in alerts:
        for part in rule["expr"].split(" and "):
            side = re.split(r" (?:>|==) ", part)[0]
            assert prometheus(side), side
        assert prometheus(rule["expr"]) == [], rule["alert"]
    assert prometheus("ALERTS") == []


def _rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return found


def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """By Prometheus' own test program, over series that are written down here."""
    series = [
        {"series": 'listener_requests_total{status="200"}', "values": "0+98x600"},
        {"series": 'listener_requests_total{status="503"}', "values": "0+2x600"},
        {"series": 'up{job="listener",instance="a"}', "values": "0x600"},
        {"series": 'listener_triton_metrics_up{instance="a"}', "values": "0x600"},
        {"series": "listener_in_flight", "values": "95x600"},
        {"series": "listener_permits", "values": "100x600"},
        {"series": "listener_loop_lag_max_seconds", "values": "0.7x600"},
    ]
    names = [rule["alert"] for group in _rules() for rule in group["rules"] if "alert" in rule]
    fires = [
        {"expr": "count by (alertname) (ALERTS{alertstate='firing'})", "eval_time": "8h",
         "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)]}
    ]  # fmt: skip
    tests = {
        "rule_files": [str(FOLDER / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": fires}],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    ran = subprocess.run(["promtool", "test", "rules", tmp_path / "tests.yml"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.triton
def test_each_query_is_of_metrics_that_are_there(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path / "log", LISTENER_METRICS_PORT=str(port)) as stack:
        stack.until(200)
        assert stack.predict(PICTURE).status_code == 200
        there = set(samples(port)) | GPU | BY_PROMETHEUS
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    wanted = {name for query in queries for name in re.findall(r"[a-z_]{2,}", query)} - WORDS
    assert len(queries) > 10
    assert wanted - there == set()
