"""How `run` and `check-config` are configured, and how they read it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys

import pytest
from commands import emptied_database, exact_command, handlers_module, last_line, one_database  # noqa: F401 (fixtures)


@pytest.mark.parametrize("step", ["run", "check-config"])
def test_a_start_fails_if_its_handlers_cannot_be_loaded(command, module, step):
    """tests/unit/test_loading.py has what may be wrong with them."""
    env = module("broken_jobs", "\nraise RuntimeError('at import')")
    told = command.refused(step, "--handlers", "broken_jobs:registry", code=78, env=env)
    assert re.search(r"--handlers broken_jobs:registry: RuntimeError: at import \(/.*/broken_jobs\.py:4\)", told)


def handlers(*modules):
    return [word for each in modules for word in ("--handlers", f"{each}:registry")]


def test_a_start_fails_if_two_registries_have_the_same_kind(command, module):
    env = module("other_jobs", "registry.handler('test.ok')(lambda job: 0)")
    told = command.refused("run", *handlers("sample_jobs", "other_jobs"), code=78, env=env)
    assert "kind 'test.ok' is registered twice: at " in told


def test_a_worker_has_only_the_handlers_that_are_named(command, module):
    def kinds(*specs, **settings):
        return {each["kind"] for each in command.json("check-config", *specs, **settings)["kinds"]}

    forge = {"repo.maintenance", "search.reindex", "webhook.deliver"}
    env = module("mine", "registry.handler('mine')(lambda job: 0)")
    assert kinds() == forge
    assert kinds("--handlers", "mine:registry", env=env) == {"mine"}
    assert kinds(env=env | {"SHITHUBD_WORKER_HANDLERS": "mine:registry forge"}) == {"mine", *forge}
    told = command.refused("run", "--handlers", "mine:registry", "--kind", "webhook.deliver", code=78, env=env)
    assert told.endswith("no handler for kind 'webhook.deliver'; --handlers forge adds it")


def test_what_a_module_prints_is_not_in_the_way_of_json(command, module):
    printing = "import os\nprint('one')\nos.system('echo two')\nregistry.handler('mine')(lambda job: 0)"
    env = module("printing", printing)
    done = command("check-config", "--json", "--handlers", "printing:registry", env=env)
    assert json.loads(done.stdout)["kinds"][0]["kind"] == "mine"
    assert sorted(done.stderr.split()) == ["one", "two"]


def test_a_file_of_the_author_is_not_taken_for_a_module_of_python(command, tmp_path):
    """`run` in a directory with an http.py, which the metrics need."""
    (tmp_path / "http.py").write_text("raise RuntimeError('this is not the http of Python')")
    program = [sys.executable, "-m", "shithubd_worker", "run", "--until-empty", "--metrics", "127.0.0.1:0"]
    env = command.database.environment() | {"PYTHONSAFEPATH": "1"}
    done = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
