"""``dpucluster run``: the controllers. Flags are those of controller-runtime where it has them."""

from __future__ import annotations

from typing import Any

import click

from dpucluster.cli import kamaji_flags
from dpucluster.cli.parameters import DURATION_TYPE, NAMESPACE_TYPE


class RunCommand(click.Command):
    """Takes ``--leader-elect=false`` as Go programs do, and ``--leader-elect`` without a value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the one flag with an optional value in click's way."""
        spelled = {
            "--leader-elect=true": "--leader-elect",
            "--leader-elect=false": "--no-leader-elect",
        }
        return super().parse_args(ctx, [spelled.get(arg, arg) for arg in args])


ROLES = ("lifecycle", "static", "kamaji")
"""What can be named on the command line; ``cli.serve`` knows the component behind each."""


@click.command(cls=RunCommand, short_help="Run the controllers.")
@click.argument("roles", nargs=-1, type=click.Choice(ROLES))
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False),
    help="Kubeconfig of the management cluster; else $KUBECONFIG, in-cluster, ~/.kube/config.",
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    type=NAMESPACE_TYPE,
    help="Watch only this namespace; repeatable. Default: all.",
)
@click.option(
    "--leader-elect/--no-leader-elect",
    default=True,
    show_default=True,
    help="Hold one Lease per role, so that one replica acts.",
)
@click.option(
    "--leader-elect-lease-duration",
    "lease_duration",
    type=DURATION_TYPE,
    default="15s",
    show_default=True,
    help="How long a Lease stands without renewal.",
)
@click.option(
    "--leader-elect-renew-deadline",
    "renew_deadline",
    type=DURATION_TYPE,
    default="10s",
    show_default=True,
    help="Nothing is written after so long without renewal.",
)
@click.option(
    "--leader-elect-retry-period",
    "retry_period",
    type=DURATION_TYPE,
    default="2s",
    show_default=True,
    help="Time between two tries to get or renew a Lease.",
)
@click.option(
    "--leader-elect-namespace",
    "lease_namespace",
    default="",
    help="Namespace of the Leases; else the pod's, else dpf-operator-system.",
)
@click.option(
    "--metrics-bind-address",
    default=":8080",
    show_default=True,
    help="Where metrics are served; 0 switches them off.",
)
@click.option(
    "--health-probe-bind-address",
    default=":8081",
    show_default=True,
    help="Where /healthz and /readyz are served; 0 switches them off.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    help="DPUClusters looked at side by side.",
)
@click.option(
    "--probe-interval",
    type=DURATION_TYPE,
    default="30s",
    show_default=True,
    help="Time between two health probes of a tenant, ± 10 %.",
)
@click.option(
    "--probe-timeout",
    type=DURATION_TYPE,
    default="5s",
    show_default=True,
    help="A tenant that takes longer counts as failed.",
)
@click.option(
    "--probe-failure-threshold",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="Failures in a row that turn a Ready cluster NotReady.",
)
@kamaji_flags.kamaji_flags
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.option("-v", "--verbose", count=True, help="Log more; twice: every request.")
def run(**flags: Any) -> None:
    """Run the controllers of ROLES, or of what a DPFOperatorConfig switches on.

    Without ROLES the DPFOperatorConfig dpf-operator-system/dpfoperatorconfig decides, while the
    process runs, which of them are on. With ROLES exactly those run and no DPFOperatorConfig is
    needed; any subset works beside NVIDIA's own controllers.

    SIGTERM ends what is under way, releases the Leases and exits within ten seconds; a second one
    leaves at once.
    """
    # imported here: asyncio and aiohttp cost a third of a second
    from dpucluster.cli import serve  # noqa: PLC0415
    from dpucluster.managers.kamaji.options import KamajiOptions  # noqa: PLC0415

    kamaji = KamajiOptions(**kamaji_flags.take(flags))
    serve.main(serve.Settings(kamaji=kamaji, **flags))
