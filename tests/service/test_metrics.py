"""A real Prometheus scrapes a real server, with the configuration, the alerts and the dashboard that are shipped."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from farm.metrics import METRICS
from tests.service.serving import Serving
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
FILES = ROOT / "dashboards/prometheus"
RULES = YAML(typ="safe").load(FILES / "farm.rules.yml")["groups"][0]["rules"]
GRAFANA = json.loads((ROOT / "dashboards/grafana/farm.json").read_text())
TARGETS = [target["expr"] for panel in GRAFANA["panels"] for target in panel.get("targets", ())]
EXPRESSIONS = [rule["expr"] for rule in RULES] + TARGETS
NOT_OURS = {"process_start_time_seconds", "process_resident_memory_bytes", "up"}
WAIT_S = 60.0


def program(name: str) -> str:
    """A program of Prometheus: what `.ci/setup` has put beside Python, or the machine's own."""
    beside = Path(sys.executable).parent
    found = shutil.which(name, path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    assert found, f"{name} is not there: run `make setup`"
    return found


def promtool(*arguments: str, cwd: Path = FILES) -> str:
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=cwd, check=False, timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def plain(expression: str) -> str:
    """An expression of a panel as Grafana would ask it."""
    return re.sub(r"\$(instance|host)", ".*", expression).replace("$__rate_interval", "1m")


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:farm|process)_[a-z_]+\b", expression)) - {"farm"}


# --- the files --------------------------------------------------------------------------------------


def test_promtool_accepts_the_alerts() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", "farm.rules.yml")


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    folder = shutil.copytree(FILES, tmp_path / "prometheus")
    (folder / "farm.token").write_text("x")
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml", cwd=folder)


def test_every_alert_fires_and_does_not_fire_as_its_tests_say() -> None:
    tests = YAML(typ="safe").load(FILES / "farm.rules.test.yml")["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fires == quiet == {rule["alert"] for rule in RULES}
    assert "SUCCESS" in promtool("test", "rules", "farm.rules.test.yml")


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]


# --- scraping ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy(server: Serving) -> Iterator[Serving]:
    """A server with something to tell: finished attempts, failed ones, running ones, and cells that wait."""
    client = server.client("submit")
    for name, test in (("metrics-good", "true"), ("metrics-bad", "false")):
        server.wait_for(client, server.submit(client, test, name=name))
    whole = {"vcpus": len(os.sched_getaffinity(0))}  # one guest at a time has room, so the other cell waits
    run = server.submit(client, "sleep 300", name="metrics-waits", **whole)
    wait_for_sample(server.client("read"), r'farm_host_guests\{host="fake"\} 1\.0')
    yield server
    client = server.client("admin")
    client.post(f"/api/v1/runs/{run}/cancel")
    server.wait_for(client, run)


@pytest.fixture(scope="module")
def prometheus(busy: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Prometheus with the shipped configuration, but faster; it has scraped the server."""
    folder = shutil.copytree(FILES, tmp_path_factory.mktemp("prometheus") / "prometheus")
    (folder / "farm.token").write_text(busy.token("read"))
    config = (folder / "prometheus.yml").read_text()
    target = busy.url.removeprefix("http://")
    assert '"127.0.0.1:8080"' in config
    (folder / "prometheus.yml").write_text(config.replace("127.0.0.1:8080", target).replace("15s", "1s"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = ["--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program("prometheus"), *arguments, f"--web.listen-address={address}"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=30) as client:
            wait_until_scraped(client, process, folder / "log")
            yield client
    finally:
        process.terminate()
        process.wait(30)


def wait_until_scraped(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    def has_scraped() -> bool:
        try:
            answer = client.get("/query", params={"query": 'up{job="farm"} == 1'})
        except httpx.TransportError:
            return False
        # While it starts, it listens already and answers with 503.
        return answer.status_code == 200 and bool(answer.json()["data"]["result"])

    eventually(
        has_scraped,
        within_s=WAIT_S,
        as_long_as=lambda: process.poll() is None,
        what=lambda: f"Prometheus has scraped the server; it said: {log.read_text()}",
    )


def scraped(server: Serving) -> str:
    answer = server.client("read").get("/metrics")
    assert answer.status_code == 200, answer.text
    return answer.text


def result(client: httpx.Client, query: str) -> Any:
    answer = client.get("/query", params={"query": query}).json()
    assert answer["status"] == "success", (query, answer)
    return answer["data"]["result"]


def test_all_metrics_of_the_table_are_scraped_and_no_others(busy: Serving) -> None:
    told = dict(re.findall(r"^# TYPE (farm_\w+) (\w+)$", scraped(busy), re.MULTILINE))
    kinds = {"counter": "counter", "gauge": "gauge", "histogram": "histogram", "info": "gauge"}
    ends = {"counter": "_total", "info": "_info"}
    assert told == {metric.name + ends.get(metric.kind, ""): kinds[metric.kind] for metric in METRICS}


def test_every_metric_has_the_labels_of_the_table(busy: Serving) -> None:
    operator, found = busy.client("operate"), dict[str, set[str]]()
    host = "/api/v1/hosts/" + operator.get("/api/v1/hosts").json()["hosts"][0]["name"]
    operator.post(f"{host}/drain", json={"reason": "to be seen"}).raise_for_status()
    text = scraped(busy)
    operator.post(f"{host}/enable").raise_for_status()
    for name, labels in re.findall(r"^(farm_\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r"(\w+)=\"", labels))
    for metric in METRICS:
        for name in metric.samples:
            extra = {"le"} if name.endswith("_bucket") else set()
            assert found.get(name) == {*metric.labels, *extra}, name


def test_numbers_are_those_of_what_was_done(busy: Serving) -> None:
    text = scraped(busy)
    for verdict in ("passed", "failed"):
        assert re.search(rf'farm_attempts_finished_total\{{.*verdict="{verdict}"\}} [1-9]', text), verdict
    assert re.search(r'farm_queue_cells\{priority="50"\} [1-9]', text)
    assert re.search(r'farm_guest_ready_seconds_count\{arch="s390x",hypervisor="fake",start="cold"\} [1-9]', text)
    assert re.search(r'farm_http_requests_total\{method="POST",route="/api/v1/runs",status="201"\} [1-9]', text)
    assert "metrics-good" not in text  # no run and no cell is a label


def test_the_server_is_what_the_configuration_calls_it(prometheus: httpx.Client) -> None:
    assert result(prometheus, 'farm_store_up{job="farm"}')[0]["value"][1] == "1"


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_every_expression_of_an_alert_or_a_panel_can_be_evaluated(prometheus: httpx.Client, expression: str) -> None:
    result(prometheus, plain(expression))


def test_every_metric_that_an_alert_or_a_panel_names_is_scraped(prometheus: httpx.Client) -> None:
    known = set(prometheus.get("/label/__name__/values").json()["data"])
    used = {name for expression in EXPRESSIONS for name in names_in(expression)}
    assert used - known == set()
    ours = {name for metric in METRICS for name in metric.samples}
    assert used - ours <= NOT_OURS


def test_every_choice_of_the_dashboard_has_something_to_choose(prometheus: httpx.Client) -> None:
    queries = [one["definition"] for one in GRAFANA["templating"]["list"] if one["type"] == "query"]
    for query in queries:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
        assert found, query
        values = {series["metric"][found[2]] for series in result(prometheus, found[1])}
        assert values, query


def test_panels_show_what_goes_on(prometheus: httpx.Client) -> None:
    """Nearly all have something to show while runs go on; those that tell of what goes wrong need not."""
    silent = [query for query in TARGETS if not re.search(r"rate\(|increase\(", query)]
    assert [query for query in silent if not result(prometheus, plain(query))] == []


def test_prometheus_itself_has_no_quarrel_with_the_alerts(prometheus: httpx.Client) -> None:
    def health() -> dict[str, str]:
        (group,) = prometheus.get("/rules").json()["data"]["groups"]
        return {rule["name"]: rule["health"] for rule in group["rules"]}

    eventually(
        lambda: "unknown" not in health().values(),
        within_s=WAIT_S,
        what=lambda: f"every alert has been tried; they are: {health()}",
    )
    assert set(health().values()) == {"ok"}


# --- who may scrape ---------------------------------------------------------------------------------


def test_a_scrape_takes_a_token_that_may_read(server: Serving) -> None:
    assert server.client("").get("/metrics").status_code == 401
    assert server.client("read").get("/metrics").status_code == 200


def test_openmetrics_is_given_to_who_asks_for_it(server: Serving) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    answer = server.client("read").get("/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_counters_of_the_store_go_on_where_they_were_after_a_restart(own_server: Callable[..., Serving]) -> None:
    one = own_server(settings="metrics_public = true\n")
    client = one.client("submit")
    one.wait_for(client, one.submit(client))
    lasting = r"^farm_(?:attempts_\w+_total|runs_finished_total|store_events_total).*$"
    wait_for_sample(one.client(""), r"farm_runs_finished_total\{.*\} 1\.0")  # which is the last that happens
    before = re.findall(lasting, httpx.get(f"{one.url}/metrics").text, re.MULTILINE)
    one.stop()
    one.start()
    wait_for_sample(one.client(""), "farm_attempts_started_total")
    assert re.findall(lasting, httpx.get(f"{one.url}/metrics").text, re.MULTILINE) == before


def wait_for_sample(client: httpx.Client, pattern: str) -> None:
    """Wait until the metrics have it; what is counted from events is there a moment later."""
    text = ""

    def is_there() -> bool:
        nonlocal text
        text = client.get("/metrics").text
        return bool(re.search(rf"^{pattern}", text, re.MULTILINE))

    eventually(is_there, within_s=WAIT_S, what=lambda: f"the metrics have {pattern}; they are: {text}")
