"""``dpucluster demo``: the guide's static flow on real control planes, to be watched."""

from __future__ import annotations

import sys

import click

from dpucluster.cli.parameters import DURATION_TYPE


@click.command(short_help="Show the static flow on real control planes.")
@click.option("--tour", is_flag=True, help="Go on: outage, recovery, rotation, broken Secrets.")
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
def demo(*, tour: bool, exit_: bool, timeout: float) -> None:
    """Start a management and a tenant control plane, and make a DPUCluster Ready.

    The guide's three manifests are applied with kubectl; what becomes of them is shown as it
    happens. The planes stay up until Ctrl-C, with the commands to try next. Everything runs on
    this machine, and nothing is left of it at the end.
    """
    from dpucluster.cli import demo_run  # noqa: PLC0415 - lazily, for a quick --help

    sys.exit(demo_run.main(demo_run.Options(tour=tour, exit=exit_, timeout=timeout)))
