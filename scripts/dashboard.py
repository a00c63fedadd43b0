"""runbooks/dashboard.json from dashboard_panels.py, for Grafana 10.1 or newer: `make dashboard`.

Written with Grafana's own SDK, whose types know which fields there are: no Grafana is here to try it in.
"""

from __future__ import annotations

import json
from pathlib import Path

from dashboard_panels import HOLDS, ROWS, VARIABLES, Line, Panel
from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

OUTPUT = Path(__file__).parents[1] / "runbooks/dashboard.json"
PAGES = "https://github.com/tenseleyFlow/shithubd-worker/blob/main/runbooks/alerts"
SOURCE = models.DataSourceRef("prometheus", "$datasource")
WIDTH, HEIGHT = 8, 8  # three beside each other
RED, GREEN = "red", "green"
LEGEND = (
    common.VizLegendOptions()
    .show_legend(True)
    .display_mode(common_models.LegendDisplayMode.LIST)
    .placement(common_models.LegendPlacement.BOTTOM)
)
TOOLTIP = (
    common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI).sort(common_models.SortOrder.DESCENDING)
)


def build() -> str:
    """The dashboard, as Grafana imports it."""
    board = (
        dashboard.Dashboard("shithubd-worker")
        .uid("shithubd-worker")
        .description("Are users waiting? Why? Until when? Each graph links to the pages of its alerts.")
        .tags(["shithubd-worker"])
        .time("now-3h", "now")
        .refresh("1m")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for name, query in VARIABLES.items():
        board.with_variable(_variable(name, query))
    for name, query in HOLDS.items():
        board.annotation(dashboard.AnnotationQuery().name(name).datasource(SOURCE).icon_color(RED).expr(query))
    for question, panels in ROWS.items():
        board.with_row(dashboard.Row(question))
        for panel in panels:
            board.with_panel(_graph(panel))
    document = json.loads(JSONEncoder().encode(board.build()))
    for number, panel in enumerate(document["panels"], 1):
        panel["id"] = number  # else Grafana numbers them at each import
    for annotation in document["annotations"]["list"]:
        annotation["titleFormat"] = "{{kind}}{{scope}}"  # which the SDK doesn't know
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _variable(name: str, query: str) -> dashboard.QueryVariable:
    """Any number of values, at first all."""
    return (
        dashboard.QueryVariable(name)
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def _graph(panel: Panel) -> timeseries.Panel:
    graph = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .unit(panel.unit)
        .min(0)
        .span(WIDTH)
        .height(HEIGHT)
        .fill_opacity(25 if panel.stacked else 8)
        .legend(LEGEND)
        .tooltip(TOOLTIP)
        .links([_link(alert) for alert in panel.alerts])
    )
    if panel.stacked:
        graph.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if panel.alarm is not None:
        steps = [models.Threshold(None, GREEN), models.Threshold(panel.alarm, RED)]
        graph.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
        style = common.GraphThresholdsStyleConfig().mode(common_models.GraphTresholdsStyleMode.DASHED)
        graph.thresholds_style(style)
    for letter, line in zip("ABCDEFGH", panel.lines, strict=False):
        graph.with_target(_target(letter, line))
    return graph


def _target(letter: str, line: Line) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(letter).datasource(SOURCE).expr(line.expr).legend_format(line.legend).range()


def _link(alert: str) -> dashboard.DashboardLink:
    link = dashboard.DashboardLink(alert).type(models.DashboardLinkType.LINK)
    return link.url(f"{PAGES}/{alert}.md").target_blank(True)


if __name__ == "__main__":
    OUTPUT.write_text(build())
