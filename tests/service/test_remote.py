"""The command line against a server: what it prints and exits with is the same as on the server's own machine."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.service.serving import Serving
from tests.service.terminal import Terminal, normal, terminals
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(600)

HOLD = "echo under way\nsleep 600\n"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def both(server: Serving, tmp_path: Path) -> Iterator[tuple[Terminal, Terminal]]:
    """A terminal on the server's machine, and one elsewhere."""
    with terminals(tmp_path, server) as made:
        yield made


@pytest.fixture
def there(both: tuple[Terminal, Terminal]) -> Terminal:
    """A terminal that knows nothing but the server's address, and a token."""
    return both[1]


def started_run(terminal: Terminal, client: Serving, test: str, name: str) -> str:
    """A run that was submitted and is under way."""
    ended = terminal("submit", terminal.matrix(name=name, test=test))
    assert ended.status == 0, ended.err
    run = ended.out.split()[0]
    client.wait_for(client.client("read"), run, "running")
    return run


# --- the same here and there ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "status"),
    [
        ("passes", {}, 0),
        ("fails", {"test": "false"}, 1),
        ("broken", {"env": {"FAKE_BOOT": "no-host"}, "retries": 0}, 2),
    ],
)
def test_submit_and_wait_is_the_same_here_and_there(
    both: tuple[Terminal, Terminal], name: str, changes: dict[str, object], status: int
) -> None:
    ended = [
        one(
            "submit",
            one.matrix(name=name, **changes),
            "--wait",
            "--out",
            "report",
            "--version",
            "1.0",
            "--label",
            "a=b",
        )
        for one in both
    ]
    assert [one.status for one in ended] == [status, status], ended
    assert normal(ended[0].out) == normal(ended[1].out)
    assert [one.err for one in ended] == ["", ""]
    files = [sorted(path.name for path in (one.folder / "report").iterdir()) for one in both]
    assert files[0] == files[1]
    reports = [json.loads((one.folder / "report/report.json").read_text())["run"] for one in both]
    assert [(run["exit_code"], run["version"], run["labels"]) for run in reports] == [(status, "1.0", {"a": "b"})] * 2


def test_run_with_a_server_ends_like_a_run_here(both: tuple[Terminal, Terminal]) -> None:
    here, there = both
    ended = here("submit", here.matrix(name="ran", test="false"), "--wait", "--out", "farm-report")
    ran = there("run", there.matrix(name="ran", test="false"))
    assert (ran.status, normal(ran.out)) == (1, normal(ended.out))
    assert (there.folder / "farm-report/index.html").is_file()


def test_other_commands_are_the_same_here_and_there(server: Serving, both: tuple[Terminal, Terminal]) -> None:
    here, there = both
    admin = server.token("admin")  # the run is not the other one's own
    host = server.client("read").get("/api/v1/hosts").json()["hosts"][0]["name"]
    run = here("submit", here.matrix(name="read", test="echo one\nfalse"), "--wait").out.split()[0]
    cell = "*/s390x"
    there.matrix(name="read")
    for command in (
        ("watch", run),
        ("report", run),
        ("logs", run, cell),
        ("logs", run, cell, "test"),
        ("logs", run, cell, "test", "--follow"),
        ("logs", run, cell, "--attempt", "7"),
        ("logs", run, cell, "nonsense"),
        ("logs", run, "nonsense"),
        ("watch", "nonsense-1"),
        ("cancel", run),
        ("rerun", run, "--cells", "nonsense"),
        ("plan", "read.yaml"),
        ("plan", "read.yaml", "--only", "nonsense"),
        ("plan", "nothing.yaml"),
        ("runs", "--limit", "3"),
        ("explain", run, cell),
        ("explain", run, "nonsense"),
        ("host", "drain", host, "--reason", "a new disk"),
        ("host", "resume", host),
        ("host", "resume", "nonsense"),
        ("images", "show", "nonsense/amd64"),
        ("images", "diff", "nonsense/amd64", "nonsense/s390x"),
        ("token", "revoke", "nonsense"),
    ):
        first, second = here(*command), there(*command, FARM_TOKEN=admin)
        assert (first.status, first.out, first.err) == (second.status, second.out, second.err), command


def test_tokens_are_made_listed_and_revoked_here_and_there(server: Serving, both: tuple[Terminal, Terminal]) -> None:
    admin = server.token("admin")
    for one, name in zip(both, ("made-here", "made-there"), strict=True):
        made = one("token", "create", name, "--scope", "read", "--expires", "36h", FARM_TOKEN=admin)
        assert (made.status, f"of {name}, scope read" in made.err) == (0, True), made.err
        headers = {"Authorization": f"Bearer {made.out.strip()}"}
        assert server.client("").get("/api/v1/me", headers=headers).json()["name"] == name
    first, second = (one("token", "list", FARM_TOKEN=admin) for one in both)
    assert (first.status, first.out) == (0, second.out)
    made_of = {one["name"]: one for one in server.client("admin").get("/api/v1/tokens").json()}
    for one, name in zip(both, ("made-there", "made-here"), strict=True):
        lasts = datetime.fromisoformat(made_of[name]["expires"]) - datetime.fromisoformat(made_of[name]["created"])
        assert lasts == timedelta(hours=36)
        assert one("token", "revoke", made_of[name]["id"], FARM_TOKEN=admin).status == 0
    told = both[1]("token", "list", FARM_TOKEN=admin).out
    assert [line.split()[-1] for line in told.splitlines() if "made-" in line] == ["revoked", "revoked"]


def test_the_images_are_those_where_the_server_runs(server: Serving, both: tuple[Terminal, Terminal]) -> None:
    images = server.client("read").get("/api/v1/images").json()["images"]
    for command in (("images", "list"), ("images",)):
        for one in both:
            ended = one(*command)
            assert (ended.status, ended.err) == (0, "")
            told = {tuple(line.split()[:2]) for line in ended.out.splitlines()}
            assert told >= {(f"{image['name']}/{image['arch']}", image["digest"][:12]) for image in images}
    for image in images[:1]:
        for name in (image["digest"], image["digest"][:12]):
            shown = [one("images", "show", name, "--packages") for one in both]
            assert (shown[0].status, shown[0].out) == (0, shown[1].out)
            same = [one("images", "diff", name, image["digest"]) for one in both]
            assert (same[0].status, same[0].out) == (0, same[1].out)


def test_the_hosts_are_those_that_the_server_has(both: tuple[Terminal, Terminal]) -> None:
    here, there = (one("hosts") for one in both)
    assert (here.status, there.status) == (0, 0)
    assert working(here.out) == working(there.out) >= {"amd64"}
    assert failing(here.out) == failing(there.out)


def working(table: str) -> set[str]:
    """The architectures that a host can run."""
    return set(re.findall(r"(\w+) +(?:native|emulated).* works *$", table, re.MULTILINE))


def failing(table: str) -> set[str]:
    """What a host cannot run: the lines that say why."""
    return {line.strip() for line in table.splitlines() if re.search(r"native|emulated", line) and "works" not in line}


def test_a_drained_host_is_told_here_and_there(server: Serving, both: tuple[Terminal, Terminal]) -> None:
    client = server.client("operate")
    name = client.get("/api/v1/hosts").json()["hosts"][0]["name"]
    assert client.post(f"/api/v1/hosts/{name}/drain", json={"reason": "a new disk"}).status_code == 200
    told = [one("hosts").out for one in both]
    assert client.post(f"/api/v1/hosts/{name}/enable").status_code == 200
    assert ["drained: a new disk" in text for text in told] == [True, True]


def test_a_mistake_in_a_matrix_is_told_with_its_place_here_and_there(both: tuple[Terminal, Terminal]) -> None:
    ended = []
    for one in both:
        (one.folder / "wrong.yaml").write_text("name: x\naxes: {image: [a], arch: [b]}\nbild: make\ntest: true\n")
        ended.append(one("submit", "wrong.yaml"))
    assert ended[0] == ended[1]
    assert ended[0].status == 2
    assert "wrong.yaml:3:1: " in ended[0].err


def test_failed_cells_run_again_here_and_there(both: tuple[Terminal, Terminal]) -> None:
    ended = []
    for one in both:
        assert one("submit", one.matrix(name="again", test="false"), "--wait").status == 1
        ended.append(one("rerun", "latest", "--cells", "*/amd64", "--wait"))
    assert normal(ended[0].out) == normal(ended[1].out)
    assert [(one.status, "of 1 cells" in one.out) for one in ended] == [(1, True)] * 2


def test_a_run_is_cancelled_from_there(server: Serving, there: Terminal) -> None:
    run = started_run(there, server, HOLD, "cancelled")
    watching = there.start("watch", run)
    ended = there("cancel", run)
    assert (ended.status, ended.out) == (0, f"{run} is being cancelled\n")
    watched = there.end(watching)
    assert watched.status == 130
    assert f"{run}: 2 cancelled of 2 cells" in watched.out


# --- what is sent and what comes back ---------------------------------------------------------------


def test_a_source_is_uploaded_once(server: Serving, there: Terminal) -> None:
    matrix = there.matrix(name="once")
    before = set((server.state / "sources").glob("*.tar"))
    for _ in range(2):
        assert there("submit", matrix, "--wait").status == 0
    assert len(set((server.state / "sources").glob("*.tar")) - before) == 1


def test_the_same_key_is_the_same_run(there: Terminal) -> None:
    matrix = there.matrix(name="keyed")
    first, second = (there("submit", matrix, "--idempotency-key", "build-7") for _ in range(2))
    assert first.out == second.out
    there.matrix(name="keyed", test="echo other")
    third = there("submit", matrix, "--idempotency-key", "build-7")
    assert third.status == 2
    assert "it was used for another request" in third.err


def test_a_secret_comes_from_the_environment_and_is_masked(there: Terminal) -> None:
    matrix = there.matrix(name="secret", test="echo $PASSWORD")
    ended = there("submit", matrix, "--secret", "PASSWORD", "--wait", PASSWORD="open-sesame")  # noqa: S106
    assert ended.status == 0, ended.err
    log = there("logs", ended.out.split()[0], "*/amd64", "test")
    assert log.status == 0
    assert "open-sesame" not in log.out + ended.out + ended.err
    missing = there("submit", matrix, "--secret", "PASSWORT")
    assert (missing.status, "no such environment variable" in missing.err) == (2, True)


def test_reports_go_where_a_pipeline_wants_them(there: Terminal) -> None:
    summary = there.folder / "summary"
    summary.write_text("before\n")
    matrix = there.matrix(name="pipeline", test="false")
    ended = there("submit", matrix, "--wait", "--junit", "out/j.xml", GITHUB_STEP_SUMMARY=str(summary))
    assert ended.status == 1
    assert ET.parse(there.folder / "out/j.xml").getroot().get("failures") == "2"  # noqa: S314 - our own
    text = summary.read_text()
    assert text.startswith("before\n")
    assert "0 of 2 cells passed" in text


def test_an_image_by_its_path_is_refused_with_its_line(there: Terminal) -> None:
    axes = {"image": ["mine"], "arch": ["amd64"], "hypervisor": ["fake"]}
    image = {"mine": {"cloud": "/tmp/disk.qcow2", "sha256": "0" * 64}}
    ended = there("submit", there.matrix(name="image", axes=axes, images=image))
    assert ended.status == 2
    assert "cannot use the image 'mine'" in ended.err


def test_a_log_is_followed_while_it_grows(server: Serving, there: Terminal) -> None:
    run = started_run(there, server, "echo first\nsleep 3\necho last", "grows")
    following = there.start("logs", run, "*/amd64", "test", "--follow")
    eventually(lambda: "first" in there.read(following, "out"), what="the beginning of the log")
    ended = there.end(following)
    assert (ended.status, ended.out.split()[-1]) == (0, "last")


# --- when it does not go well -----------------------------------------------------------------------


def test_a_wrong_token_and_none_are_told_with_what_to_do(there: Terminal) -> None:
    for token, cause in (("farm_nonsense", "cannot accept the token"), ("", "the request has no token")):
        ended = there("runs", FARM_TOKEN=token)
        assert ended.status == 2
        assert cause in ended.err
        assert "farm token create" in ended.err


def test_what_became_of_a_cell_is_explained_the_same_here_and_there_and_by_the_api(
    server: Serving, both: tuple[Terminal, Terminal]
) -> None:
    here, _there = both
    run = here("submit", here.matrix(name="told", test="echo one\nfalse"), "--wait").out.split()[0]
    said = [one("explain", run, "*/s390x") for one in both]
    assert [(one.status, one.err) for one in said] == [(0, "")] * 2
    assert said[0].out == said[1].out
    answer = server.client("read").get(f"/api/v1/runs/{run}/cells/debian-13/s390x/fake/explain").json()
    assert (answer["run"], answer["cell"], answer["state"]) == (run, "debian-13/s390x/fake", "finished")
    assert (answer["outcome"]["verdict"], answer["outcome"]["rule"]) == ("failed", "script-failed")
    (attempt,) = answer["attempts"]
    assert (attempt["number"], attempt["verdict"], attempt["blame"]) == (1, "failed", "test")
    assert attempt["next"].startswith("not tried again: it failed")
    assert answer["hosts"] == []
    assert answer["place"] is None
    for text in (answer["headline"], *answer["reasons"], *answer["outcome"]["lines"]):
        assert text in said[1].out
    for wrong in (("explain", run, "nonsense"), ("explain", "nonsense-1", "*")):
        refused = [one(*wrong) for one in both]
        assert [one.status for one in refused] == [2, 2]
        assert refused[0].err == refused[1].err


def _states(cells: list[dict[str, str]]) -> dict[str, str]:
    """A cell that waits and one that runs, by that; nothing while there are not both."""
    found = {cell["state"]: cell["id"] for cell in cells}
    return found if found.keys() == {"queued", "running"} else {}


def test_why_a_cell_waits_is_explained_by_the_api_and_the_command(server: Serving, there: Terminal) -> None:
    changes: dict[str, object] = {"max-parallel": 1}
    run = there("submit", there.matrix(name="waits", test=HOLD, **changes)).out.split()[0]  # type: ignore[arg-type]
    client = server.client("read")
    cells = f"/api/v1/runs/{run}/cells"
    states = eventually(lambda: _states(client.get(cells).json()["cells"]), what="one runs and one waits")
    answer = client.get(f"{cells}/{states['queued']}/explain").json()
    assert (answer["state"], answer["outcome"], answer["attempts"]) == ("queued", None, [])
    assert any("max-parallel" in reason for reason in answer["reasons"]), answer
    assert [host["may"] for host in answer["hosts"]] != []
    said = there("explain", run, states["queued"])
    assert said.status == 0, said.err
    assert answer["headline"] in said.out
    assert answer["hosts"][0]["name"] in said.out
    assert client.get(f"{cells}/{states['running']}/explain").json()["state"] == "running"
    assert there("cancel", run).status == 0


def test_a_token_may_do_no_more_than_its_scope(server: Serving, there: Terminal) -> None:
    (there.folder / "token").write_text(server.token("read") + "\n")
    assert there("runs", "--token-file", "token").status == 0
    ended = there("submit", there.matrix(name="scope"), "--token-file", "token")
    assert ended.status == 2
    assert "it takes submit" in ended.err


@pytest.mark.parametrize("url", [NOBODY, "ftp://127.0.0.1", "http://"])
def test_no_server_is_a_sentence(there: Terminal, url: str) -> None:
    ended = there("runs", "--server", url)
    assert ended.status == 2
    assert ended.err.startswith("error: cannot ")
    assert url.rstrip("/") in ended.err


def test_ctrl_c_leaves_a_run_alone_unless_it_is_to_cancel_it(server: Serving, there: Terminal) -> None:
    run = started_run(there, server, HOLD, "interrupted")
    for options, status in (((), 130), (("--cancel-on-interrupt",), 130)):
        watching = there.start("watch", run, *options)
        eventually(lambda watching=watching: "boot" in there.read(watching, "out"), what="it watches")
        watching.send_signal(signal.SIGINT)
        ended = there.end(watching)
        assert ended.status == status
        state = server.client("read").get(f"/api/v1/runs/{run}").json()["run"]["state"]
        if options:
            assert "cancelling" in ended.err
            assert (state, f"{run}: 2 cancelled" in ended.out) == ("finished", True)
        else:
            assert f"watch    farm watch {run}\ncancel   farm cancel {run}\n" in ended.out
            assert state == "running"


def test_sigterm_ends_a_run_with_a_server_as_ctrl_c_does(server: Serving, there: Terminal) -> None:
    running = there.start("run", there.matrix(name="termed", test=HOLD))
    eventually(lambda: "boot" in there.read(running, "out"), what="it watches")
    running.send_signal(signal.SIGTERM)
    ended = there.end(running)
    assert (ended.status, "2 cancelled of 2 cells" in ended.out) == (130, True)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_waiting_goes_on_while_the_server_is_started_again(
    own_server: Callable[..., Serving], tmp_path: Path, how: signal.Signals
) -> None:
    server = own_server()
    port = server.url.rpartition(":")[2]
    with terminals(tmp_path, server) as (_, there):
        waiting = there.start("submit", there.matrix(name="restart", test="sleep 10"), "--wait")
        eventually(lambda: "boot" in there.read(waiting, "out"), what="it watches")
        server.stop(how)
        # A stream that was ended in order is opened again without a word: there is one when nobody opens.
        eventually(lambda: "trying again" in there.read(waiting, "err"), what="it has met a closed door")
        server.start(port=int(port))
        ended = there.end(waiting)
    assert ended.status == 0, ended.err
    assert "2 passed of 2 cells" in ended.out
    assert ended.err.count("trying again") == 1
    assert ended.out.count("PASSED") == 2
    assert ended.out.count("provision") >= 3  # both cells, and what ran when the server ended, again


def test_what_is_submitted_without_a_server_is_carried_out_by_the_next(
    own_server: Callable[..., Serving], tmp_path: Path
) -> None:
    server = own_server()
    with terminals(tmp_path, server) as (here, _):
        server.stop()
        ended = here("submit", here.matrix(name="later"))
        assert ended.status == 0
        assert "nobody carries it out" in ended.err
        server.start()
        watched = here("watch", ended.out.split()[0])
    assert (watched.status, watched.err) == (0, "")
