"""What the operator decided: all of it is read, all faults are shown at once, and flags and variables mean the same."""

from __future__ import annotations

import dataclasses

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from shithubd_worker.cli.settings import config_options
from shithubd_worker.errors import EXIT_CONFIG, ConfigError
from shithubd_worker.settings.config import LONGEST_SCHEMA, SETTINGS, Config, check_schema, make_config
from shithubd_worker.settings.table import LONGEST_SECONDS, Address


def test_a_setting_that_is_not_given_has_its_documented_default():
    assert make_config({}) == Config()
    assert (Config().poll_interval, Config().grace, Config().database_wait) == (1.0, 25.0, 60.0)
    assert Config().metrics == ("127.0.0.1", 8081)


def test_a_setting_that_is_given_counts(tmp_path):
    config = make_config(
        {
            "handlers": ("a:registry", "b:registry"),
            "kinds": ("a",),
            "exclude_kinds": ("b", "c"),
            "poll_interval": "0.5",
            "poll_only": True,
            "grace": "0",
            "database_wait": 5,
            "until_empty": True,
            "metrics": "[::1]:0",
            "repo_root": str(tmp_path),
            "secrets_dir": str(tmp_path),
            "webhook_allow_private": True,
        }
    )
    assert config == Config(
        handlers=("a:registry", "b:registry"),
        kinds=("a",),
        exclude_kinds=("b", "c"),
        poll_interval=0.5,
        poll_only=True,
        grace=0.0,
        database_wait=5.0,
        until_empty=True,
        metrics=Address("::1", 0),
        repo_root=tmp_path,
        secrets_dir=tmp_path,
        webhook_allow_private=True,
    )


def test_all_faults_are_shown_at_once_each_with_its_flag_and_its_variable():
    with pytest.raises(ConfigError) as caught:
        make_config(
            {
                "poll_interval": "0",
                "grace": "-1",
                "database_wait": "soon",
                "metrics": "8081",
                "repo_root": "/no/such/directory",
                "secrets_dir": __file__,
                "kinds": ("a", "b"),
                "exclude_kinds": ("b",),
            }
        )
    lines = str(caught.value).splitlines()
    assert len(lines) == 7
    for name in ("poll_interval", "grace", "database_wait", "metrics", "repo_root", "secrets_dir"):
        flag, variable = f"--{name.replace('_', '-')}", f"SHITHUBD_WORKER_{name.upper()}"
        assert sum(flag in line and variable in line for line in lines) == 1, name
    assert sum("--exclude-kind" in line and "b is in both" in line for line in lines) == 1
    assert caught.value.exit_code == EXIT_CONFIG


@pytest.mark.parametrize("value", ["0.009", "nan", "inf", "-inf", "1e6", "", " ", "1s"])
def test_a_number_of_seconds_is_a_number_in_its_range(value):
    if value == "":  # an empty variable counts as unset
        assert make_config({"poll_interval": value}).poll_interval == 1.0
    else:
        with pytest.raises(ConfigError, match="number of seconds"):
            make_config({"poll_interval": value})


@given(st.floats(min_value=0.01, max_value=LONGEST_SECONDS))
def test_every_number_in_the_range_is_accepted_unchanged(value):
    assert make_config({"poll_interval": str(value)}).poll_interval == value


@pytest.mark.parametrize(
    ("given_", "host", "port"),
    [
        ("127.0.0.1:9100", "127.0.0.1", 9100),
        ("0.0.0.0:1", "0.0.0.0", 1),
        ("worker.example:65535", "worker.example", 65535),
        ("[fe80::1]:80", "fe80::1", 80),
    ],
)
def test_the_metrics_address_is_a_host_and_a_port(given_, host, port):
    assert make_config({"metrics": given_}).metrics == (host, port)


@pytest.mark.parametrize(
    ("unit", "port"),
    [
        *[("", 8081), ("shithubd-worker.service", 8081), ("forge-jobs", 8081)],
        *[("shithubd-worker@1.service", 8082), ("shithubd-worker@2", 8083), ("forge@999.service", 9080)],
        *[
            (f"shithubd-worker@{name}.service", None)
            for name in ("webhooks", "0", "01", "1000", "65536", "2b", "", "\u0663")
        ],
        *[("shithubd-worker@-1", None), ("shithubd-worker@1@2.service", None)],
    ],
)
def test_the_name_of_the_unit_gives_the_port_of_its_metrics(unit, port):
    assert make_config({}, unit).metrics == ("127.0.0.1", port)
    assert make_config({"metrics": "[::]"}, unit).metrics == ("::", port)
    assert make_config({"metrics": "web1.example:9200"}, unit).metrics == ("web1.example", 9200)
    assert make_config({"metrics": "off"}, unit).metrics == ("", None)


def test_the_metrics_can_be_switched_off():
    assert make_config({"metrics": "off"}).metrics.port is None


@pytest.mark.parametrize(
    "value",
    [":8081", "8081", "localhost:", "localhost:65536", "::1:80", "::1", "[::1", "a b:80", "h:-1", "h:+1", "h:\u0661"],
)
def test_any_other_metrics_address_is_refused(value):
    with pytest.raises(ConfigError, match="HOST or HOST:PORT"):
        make_config({"metrics": value})


def test_a_directory_is_made_absolute_so_that_it_outlives_a_change_of_directory(tmp_path, monkeypatch):
    (tmp_path / "repos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert make_config({"repo_root": "repos"}).repo_root == tmp_path / "repos"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make_config({"repo_root": "~/repos"}).repo_root == tmp_path / "repos"


@given(st.dictionaries(st.sampled_from([*SETTINGS]), st.text()))
def test_no_text_makes_the_reader_fail(raw):
    try:
        config = make_config(raw)
    except ConfigError:
        return
    assert 0.01 <= config.poll_interval <= LONGEST_SECONDS


@pytest.mark.parametrize("name", ["public", "forge", 'odd "name"', "Größe", "a" * LONGEST_SCHEMA])
def test_a_schema_may_have_any_printable_name_that_fits_a_channel(name):
    assert check_schema(name) == name


@pytest.mark.parametrize("name", ["", "a" * (LONGEST_SCHEMA + 1), "ü" * 25, "a\nb", "a\x00b", "100%", "\udcff"])
def test_other_names_of_schemas_are_refused(name):
    with pytest.raises(ConfigError, match="1 to 48 bytes"):
        check_schema(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("$user", "a search_path, not a schema"),
        ('"$user"', "a search_path, not a schema"),
        ("public, x", "a search_path, not a schema"),
        ('"$user",public', "a search_path, not a schema"),
        (" ", "without quotes and spaces"),
        (" queue", "without quotes and spaces"),
        ('"queue"', "without quotes and spaces"),
        ("'queue'", "without quotes and spaces"),
        ("pg_queue", "PostgreSQL keeps this name"),
        ("pg_catalog", "PostgreSQL keeps this name"),
        ("pg_temp", "PostgreSQL keeps this name"),
        ("information_schema", "PostgreSQL keeps this name"),
    ],
)
def test_a_name_that_was_meant_otherwise_is_refused_with_what_to_do(name, says):
    with pytest.raises(ConfigError, match=says):
        check_schema(name)


# Flags and variables. Each setting has both, and their names differ only in spelling.

VALUES = {
    "handlers": ("a:registry",),
    "kinds": ("one",),
    "exclude_kinds": ("two",),
    "poll_interval": "0.25",
    "poll_only": True,
    "prefetch": "0.5",
    "grace": "7",
    "database_wait": "3",
    "until_empty": True,
    "heartbeat_interval": "2",
    "sweep_threshold": "60",
    "sweep_interval": "60",
    "recovery_delay": "30",
    "metrics": "off",
    "repo_root": "/tmp",
    "secrets_dir": "/tmp",
    "webhook_allow_private": True,
    "log_format": "json",
    "log_level": "error",
}


def parsed(arguments, variables):
    """What the options of `run` pass to make_config."""
    import click

    seen = {}

    @click.command()
    @config_options
    def probe(**raw):
        seen.update(raw)

    result = CliRunner().invoke(probe, arguments, env=variables)
    assert result.exit_code == 0, result.output
    return seen


def test_every_setting_of_the_config_has_an_option():
    fields = [field.name for field in dataclasses.fields(Config)]
    assert fields == list(SETTINGS) == list(VALUES)
    assert set(parsed([], {})) == set(fields)


@pytest.mark.parametrize("name", VALUES)
def test_a_flag_and_its_variable_do_the_same(name):
    value = VALUES[name]
    flag = {"kinds": "--kind", "exclude_kinds": "--exclude-kind"}.get(name, f"--{name.replace('_', '-')}")
    spelled = value[0] if isinstance(value, tuple) else value
    by_flag = parsed([flag] if value is True else [flag, str(spelled)], {})
    variable = f"SHITHUBD_WORKER_{flag.removeprefix('--').replace('-', '_').upper()}"
    by_variable = parsed([], {variable: "1" if value is True else str(spelled)})
    assert by_flag == by_variable
    assert by_flag[name] == value
    assert by_flag != parsed([], {})


def test_the_flag_wins_over_the_variable():
    assert parsed(["--grace", "1"], {"SHITHUBD_WORKER_GRACE": "2"})["grace"] == "1"


def test_a_variable_can_name_several_kinds():
    assert parsed([], {"SHITHUBD_WORKER_KIND": "one two"})["kinds"] == ("one", "two")
