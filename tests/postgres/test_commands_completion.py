"""The completions that the shell gets for a command."""

from __future__ import annotations

from commands import emptied_database, exact_command, one_database  # noqa: F401 (fixtures)
from rows import add_job, add_worker

from shithubd_worker.model import LISTED


def completions(command, *words, **settings):
    """The completions for these words and a space."""
    env = {"_SHITHUBD_WORKER_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("shithubd-worker", *words, ""))}
    env["COMP_CWORD"] = str(len(words) + 1)
    done = command(env={**env, **settings.pop("env", {})}, **settings)
    assert done.stderr == ""
    return {line.partition(",")[2] for line in done.stdout.splitlines() if line}


def test_the_shell_completes_the_names_that_the_database_knows(database, command):
    job = add_job(database, "search.reindex", "processing", worker=add_worker(database, unit="w@1.service"))
    waits = add_job(database, "webhook.deliver")
    failed = add_job(database, "webhook.deliver", "failed")
    for words, names in (
        (("pause-kind",), {"k", "search.reindex", "webhook.deliver"}),
        (("resume-kind",), {"k", "search.reindex", "webhook.deliver"}),
        (("enqueue",), {"k", "search.reindex", "webhook.deliver"}),
        (("jobs", "list", "--kind"), {"k", "search.reindex", "webhook.deliver"}),
        (("jobs", "retry", "--kind"), {"k", "search.reindex", "webhook.deliver"}),
        (("jobs", "discard", "--state"), {"queued", "paused", "failed"}),
        (("jobs", "list", "--state"), {*LISTED}),
        (("jobs", "release"), {str(job)}),
        (("jobs", "discard"), {str(waits), str(failed)}),
        (("jobs", "show"), {str(job), str(failed)}),
        (("jobs", "explain"), {str(waits), str(failed)}),
        (("drain", "--host"), {"web1"}),
        (("drain", "--unit"), {"w@1.service"}),
        (("resume", "--worker"), {"web1:1"}),
    ):
        assert completions(command, *words) == names, words


def test_the_shell_completes_a_word_that_was_begun(database, command):
    add_job(database, "search.reindex")
    add_job(database, "webhook.deliver")
    env = {"COMP_WORDS": "shithubd-worker pause-kind sea", "COMP_CWORD": "2"}
    assert completions(command, env=env) == {"search.reindex"}


def test_the_shell_completes_from_the_database_named_before_the_command(database, command):
    add_job(database, "search.reindex")
    words = ("--database-url", database.url, "pause-kind")
    assert completions(command, *words, without_url=True, env={"PGHOST": "127.0.0.1", "PGPORT": "1"}) == {
        "search.reindex"
    }


def test_without_a_database_the_shell_gets_no_completions(command):
    away = {"SHITHUBD_WORKER_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    assert completions(command, "pause-kind", env=away) == set()
