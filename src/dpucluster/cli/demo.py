"""``dpucluster demo``: the guide's flows on real control planes, to be watched."""

from __future__ import annotations

import sys

import click

from dpucluster.cli.parameters import DURATION_TYPE


@click.command(short_help="Show the guide's flows on real control planes.")
@click.argument("flow", type=click.Choice(["static", "kamaji"]), default="static")
@click.option("--tour", is_flag=True, help="Go on: outage, recovery, rotation, deletion.")
@click.option(
    "--exit",
    "exit_",
    is_flag=True,
    help="End when all was shown, for scripts: exit code 0 only if it all came true.",
)
@click.option(
    "--timeout",
    type=DURATION_TYPE,
    default="60s",
    show_default=True,
    help="How long the DPUCluster may take to be Ready, and so for each step of the tour.",
)
def demo(flow: str, *, tour: bool, exit_: bool, timeout: float) -> None:
    """Make a DPUCluster Ready on real control planes, by the guide's own manifests.

    FLOW static (the default): a management and a tenant control plane; the DPUCluster adopts the
    tenant. FLOW kamaji: a management plane with Kamaji and two nodes; the DPUCluster is made by
    the real Kamaji behind a virtual IP that keepalived holds.

    What becomes of the manifests is shown as it happens. The planes stay up until Ctrl-C, with the
    commands to try next. Everything runs on this machine, and nothing is left of it at the end.
    """
    from dpucluster.cli import demo_run  # noqa: PLC0415 - lazily, for a quick --help

    options = demo_run.Options(flow=flow, tour=tour, exit=exit_, timeout=timeout)
    sys.exit(demo_run.main(options))
