"""Debian's Prometheus and Alertmanager on a booted host, with our rules at sixty times their speed."""

from __future__ import annotations

import json
from typing import Any

from faster import sixty_times_as_fast
from nspawn import Host, eventually
from page import RUNBOOKS

UNITS = ("prometheus.service", "prometheus-alertmanager.service")
PROMETHEUS = "http://127.0.0.1:9090"
ALERTMANAGER = "http://127.0.0.1:9093"
RULES = "/etc/prometheus/alerts.rules.yml"
# All of it a sixtieth too: a scrape and an evaluation every 30 s, and by Prometheus' own defaults 5 minutes in which a
# sample counts, and a minute after which an alert that goes on is sent again.
FILES = {
    "/etc/prometheus/prometheus.yml": f"""
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{RULES}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:9093"]}}]}}]}}
scrape_configs:
  - job_name: shithubd-worker
    static_configs: [{{targets: ["127.0.0.1:8081"]}}]
""",
    "/etc/default/prometheus": 'ARGS="--web.listen-address=127.0.0.1:9090 --query.lookback-delta=5s'
    ' --rules.alert.resend-delay=1s"\n',
    "/etc/prometheus/alertmanager.yml": """
route: {receiver: nobody}
receivers: [{name: nobody}]
""",
    "/etc/default/prometheus-alertmanager": 'ARGS="--web.listen-address=127.0.0.1:9093 --cluster.listen-address="\n',
}


class Monitoring:
    """The two on one host. Use `with Monitoring(host) as monitoring`."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def __enter__(self) -> Monitoring:
        for path, text in FILES.items():
            self.host.write(path, text)
        self.host.write(RULES, sixty_times_as_fast((RUNBOOKS / "alerts.rules.yml").read_text()))
        self.host.run("systemctl", "restart", *UNITS)
        for url in (PROMETHEUS, ALERTMANAGER):
            eventually(f"{url} is ready", lambda url=url: self.host.run("curl", "-sSf", f"{url}/-/ready", check=False))
        return self

    def __exit__(self, *_: object) -> None:
        self.host.run("systemctl", "stop", *UNITS)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers of this moment."""
        found: list[dict[str, Any]] = self._ask(f"{PROMETHEUS}/api/v1/query", query=expression)["data"]["result"]
        return found

    def rule(self, alert: str) -> dict[str, Any]:
        """The rule as Prometheus has it: its state, its health, its labels, and the templates of its annotations."""
        groups = self._ask(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
        return next(rule for group in groups for rule in group["rules"] if rule["name"] == alert)

    def firing(self, alert: str) -> list[dict[str, Any]]:
        """What Alertmanager would tell people of: its labels and annotations."""
        found: list[dict[str, Any]] = self._ask(
            f"{ALERTMANAGER}/api/v2/alerts", filter=f'alertname="{alert}"', active="true"
        )
        return found

    def _ask(self, url: str, **parameters: str) -> Any:
        pairs = [word for name, value in parameters.items() for word in ("--data-urlencode", f"{name}={value}")]
        return json.loads(self.host.run("curl", "-sSf", "--get", *pairs, url))
