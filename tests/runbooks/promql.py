"""The names in a PromQL expression, read without a parser. Prometheus itself checks the syntax."""

from __future__ import annotations

import re
from collections.abc import Iterator

# PromQL's own words, as far as we use them.
WORDS = {"and", "or", "unless", "offset", "sum", "max", "min", "avg", "count"}
WORDS |= {"changes", "increase", "last_over_time", "max_over_time", "time", "vector"}
WORDS |= {"avg_over_time", "clamp_min", "deriv", "histogram_quantile", "rate", "scalar"}


def metrics_of(expr: str) -> set[str]:
    """The names in an expression that are neither PromQL's nor labels."""
    bare = re.sub(r"\b(?:by|on)\s*\([^)]*\)", " ", expr)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    return set(re.findall(r"\b[a-z_]\w*", bare)) - WORDS


def selections_of(expr: str) -> Iterator[tuple[str, str, str]]:
    """Each (metric, label, value) that an expression selects. Each alternative is a regular expression."""
    for metric, matchers in re.findall(r"\b([a-z_]\w*)\{([^}]*)\}", expr):
        for label, values in re.findall(r'(\w+)[=!]~?"([^"]*)"', matchers):
            for value in values.split("|"):
                yield metric, label, value
