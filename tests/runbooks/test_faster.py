"""The rules at sixty times their speed are the same rules: only durations differ, and promtool accepts them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from faster import sixty_times_as_fast
from page import RUNBOOKS
from promtool import promtool

RULES = (RUNBOOKS / "alerts.rules.yml").read_text()
SECONDS = {"s": 1, "m": 60, "h": 3600}
# The numbers of 60 and more in the rules that are not seconds: jobs, and the bytes of a KiB.
OTHER = {"5000", "1024"}


def expressions(rules: str) -> str:
    return "\n".join(re.findall(r"expr: \|\n((?:^ {10}.*\n)+)", rules, re.MULTILINE))


def durations(rules: str) -> list[int]:
    """In seconds, in the order of the file: `for:`, and those in brackets and after `offset`."""
    found = re.findall(r"(?:for: |\[|:|offset )(\d+)([smh])(?=[\]:\n ])", rules)
    return [int(number) * SECONDS[unit] for number, unit in found]


@pytest.mark.parametrize(
    ("line", "faster"),
    [
        ("        for: 10m", "        for: 10s"),
        ("        for: 1h", "        for: 1m"),
        ("        for: 0m", "        for: 0s"),
        (
            "          changes(process_start_time_seconds[15m]) > 3",
            "          changes(process_start_time_seconds[15s]) > 3",
        ),
        ("          max_over_time(max(up)[6h:1m]) > 0", "          max_over_time(max(up)[6m:1s]) > 0"),
        ("            < max(age offset 5m) - 2 * 60", "            < max(age offset 5s) - 2 * 1"),
        ("          time() - started > 3 * 3600", "          time() - started > 3 * 60"),
        ("          ready < 3 * 86400", "          ready < 3 * 1440"),
        ("          depth > 5000", "          depth > 5000"),
        ("          rows > 1e6", "          rows > 1e6"),
        ("          bytes > 1024 ^ 3", "          bytes > 1024 ^ 3"),
        ('          summary: "none for 10m"', '          summary: "none for 10m"'),
        ("      # 10m, then 6h", "      # 10m, then 6h"),
    ],
)
def test_each_duration_is_divided_by_sixty_and_nothing_else_changes(line: str, faster: str) -> None:
    assert sixty_times_as_fast(f"{line}\n") == f"{faster}\n"


@pytest.mark.parametrize("duration", ["30s", "7d", "1h30m", "500ms"])
def test_a_duration_that_it_cannot_divide_is_refused(duration: str) -> None:
    with pytest.raises(ValueError, match=duration):
        sixty_times_as_fast(f"          changes(up[{duration}]) > 3\n")


def test_all_durations_of_the_rules_are_divided_by_sixty() -> None:
    real = durations(RULES)
    assert len(real) > RULES.count("- alert: ")
    assert [60 * seconds for seconds in durations(sixty_times_as_fast(RULES))] == real


def test_the_rules_write_each_number_of_seconds_as_a_product() -> None:
    bare = re.sub(r"\* (60|3600|86400)\b", "", expressions(RULES))
    numbers = re.findall(r"(?<![\w.])\d+(?![\w.])", bare)
    assert {number for number in numbers if int(number) >= 60} <= OTHER, "write seconds as 10 * 60, 2 * 3600, 3 * 86400"


def test_promtool_finds_no_fault_in_them(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(sixty_times_as_fast(RULES))
    code, said = promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yml")
    assert code == 0, said
    assert f"SUCCESS: {RULES.count('- alert: ')} rules found" in said
