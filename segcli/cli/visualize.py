"""`segcli visualize`, or `segcli viz`: pictures of what was found, of what is true, and of how a model sees.

Each command is a function in a module of its own below `segcli.cli.viz`, which imports what it draws with when it
starts to draw; here it gets its name.
"""

from __future__ import annotations

from segcli.cli.app import App
from segcli.cli.viz.attention import attention
from segcli.cli.viz.curves import curves
from segcli.cli.viz.features import features
from segcli.cli.viz.matching import matching
from segcli.cli.viz.overlays import overlays
from segcli.cli.viz.queries import queries
from segcli.cli.viz.report import report

app = App(
    help="""Draw results, truth and what a model sees (short: viz).

    segcli viz overlays segcli-out/

    segcli viz overlays segcli-out/ --truth data/

    segcli viz report runs/data-1

    segcli viz attention photo.jpg --model facade
    """
)
app.command(name="overlays")(overlays)
app.command(name="curves")(curves)
app.command(name="attention")(attention)
app.command(name="queries")(queries)
app.command(name="matching")(matching)
app.command(name="features")(features)
app.command(name="report")(report)
