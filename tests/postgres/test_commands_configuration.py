"""How `run` and `check-config` are configured, and how they read it."""

from __future__ import annotations

import json
import socket

import pytest
from commands import emptied_database, exact_command, handlers_module, last_line, one_database  # noqa: F401 (fixtures)


@pytest.mark.parametrize("step", ["run", "check-config"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_library_at_all", "no_such_library_at_all"),
        ("raise RuntimeError('at import')", "at import"),
        ("raise SystemExit(0)", "SystemExit"),
        ("this is no python", "SyntaxError"),
        ("for _ in range(2): registry.handler('twice')(lambda job: 0)", "'twice' is registered twice"),
        ("registry = 7", "not a Registry"),
        ("@registry.handler('k')\nasync def f(job): ...", "async"),
    ],
    ids=["missing", "raises", "exits", "syntax", "duplicate", "no registry", "async"],
)
def test_a_start_fails_if_its_handlers_cannot_be_loaded(command, module, step, text, says):
    env = module("broken_jobs", text)
    told = command.refused(step, "--handlers", "broken_jobs:registry", code=78, env=env)
    assert "--handlers broken_jobs:registry" in told
    assert says in told


def test_a_start_fails_if_two_registries_have_the_same_kind(command):
    told = command.refused("run", "--handlers", "sample_jobs:registry", "--handlers", "sample_jobs:registry", code=78)
    assert "registered twice" in told


FAULTS = ("--grace", "-1", "--poll-interval", "often", "--metrics", "nowhere:", "--repo-root", "/no/such/directory")
FAULTS += ("--handlers", "no_such_module:registry", "--schema", "a" * 60, "--database-url", "postgresql://[")


@pytest.mark.parametrize("step", ["run", "check-config"])
def test_all_faults_of_the_configuration_are_shown_at_once(command, step):
    done = command(step, *FAULTS, code=78)
    assert done.stdout == ""
    for word in ("grace", "poll-interval", "metrics", "repo-root", "no_such_module", "schema", "database-url"):
        assert sum(word in line for line in done.stderr.splitlines()) == 1, word
    assert len(done.stderr.splitlines()) == 7


def test_a_kind_without_a_handler_cannot_be_chosen(command):
    for flag in ("--kind", "--exclude-kind"):
        told = command.refused("run", flag, "no.such.kind", "--handlers", "sample_jobs:registry", code=78)
        assert "'no.such.kind'" in told


def test_a_good_configuration_needs_no_database(command):
    away = {"SHITHUBD_WORKER_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    arguments = ("check-config", "--handlers", "sample_jobs:registry", "--kind", "test.ok", "--grace", "3")
    assert "configuration is good: 1 kind" in command(*arguments, env=away).stdout
    told = command.json(*arguments, env=away)
    limits = {"lease_timeout": 300.0, "max_runtime": 300.0, "max_attempts": 10, "retention": "7d"}
    assert told["kinds"] == [{"kind": "test.ok", **limits, "wait_objective": None}]
    assert told["config"]["grace"] == 3.0
    assert told["schema"] == "public"


def test_the_variables_do_what_the_flags_do(command):
    flags = ("--handlers", "sample_jobs:registry", "--kind", "test.ok", "--grace", "3", "--poll-interval", "0.5")
    flags += ("--poll-only", "--database-wait", "7", "--until-empty", "--metrics", "off", "--repo-root", "/tmp")
    flags += ("--secrets-dir", "/tmp", "--webhook-allow-private", "--schema", "forge")
    names = iter(flags)
    variables = {}
    for flag in names:
        value = "1" if flag in ("--poll-only", "--until-empty", "--webhook-allow-private") else next(names)
        variables[f"SHITHUBD_WORKER_{flag.removeprefix('--').replace('-', '_').upper()}"] = value
    told = command.json("check-config", *flags)
    assert command.json("check-config", env=variables) == told
    assert told != command.json("check-config", "--handlers", "sample_jobs:registry")


def test_a_variable_sets_the_schema_and_the_log_format_too(command):
    env = {"SHITHUBD_WORKER_SCHEMA": "nowhere", "SHITHUBD_WORKER_LOG_FORMAT": "json", "SHITHUBD_WORKER_METRICS": "off"}
    done = command("run", code=76, env=env)
    assert "'nowhere'" in last_line(done)
    for line in done.stderr.splitlines()[:-1]:
        assert json.loads(line)["message"]


def test_the_current_directory_comes_first(command, module, tmp_path):
    module("sample_jobs", "registry.handler('mine')(lambda job: 0)")
    told = command.json("check-config", "--handlers", "sample_jobs:registry", "--kind", "mine", cwd=tmp_path)
    assert [kind["kind"] for kind in told["kinds"]] == ["mine"]


def test_a_worker_without_its_metrics_port_works_and_says_so(command, database):
    database.query("INSERT INTO jobs (kind) VALUES ('test.ok')")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        log = command("run", "--until-empty", "--metrics", address, "--handlers", "sample_jobs:registry").stderr
    assert f"metrics are not served now: can't listen on {address}: Address already in use; the worker works" in log
    assert database.query("SELECT outcome FROM job_history") == [("ok",)]


def test_an_instance_with_a_name_has_no_metrics_until_it_gets_a_port(command):
    env = {"SHITHUBD_WORKER_UNIT": "shithubd-worker@webhooks.service"}
    log = command("run", "--until-empty", env=env).stderr
    file = "/etc/shithub/shithubd-worker@webhooks.env"
    assert f"set SHITHUBD_WORKER_METRICS=HOST:PORT in {file}" in log
    assert "metrics on" not in log
    assert "metrics on http://127.0.0.1:" in command("run", "--until-empty", "--metrics", "127.0.0.1:0", env=env).stderr


def test_the_log_goes_to_stderr_and_says_ready_and_under_which_holds(database, command):
    database.query("SELECT drain_v1('fleet', '', 'kernel update')")
    database.query("SELECT pause_kind_v1('test.ok', 'schema work')")
    arguments = ("run", "--until-empty", "--metrics", "off", "--handlers", "sample_jobs:registry")
    done = command(*arguments)
    assert done.stdout == ""
    assert "ready" in done.stderr
    assert "kernel update" in done.stderr
    assert "schema work" in done.stderr
    as_json = [json.loads(line) for line in command(*arguments, "--log-format", "json").stderr.splitlines()]
    assert any(line["message"] == "ready" for line in as_json)
