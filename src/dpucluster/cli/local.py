"""``dpucluster up``, ``tenant``, ``down``, ``testenv``, ``binaries``: planes on this machine.

Standard output is for other programs (``eval "$(dpucluster up --detach)"``,
``KUBEBUILDER_ASSETS=$(dpucluster binaries)``); what people read goes to standard error.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dpucluster.localplane import kept

NAME_OPTION = click.option(
    "--name", default="default", show_default=True, help="Which control plane."
)
NOT_FOUND = 127
"""What shells answer for a program that is not there."""
CONTROLLERS_OPTION = click.option(
    "--no-controllers",
    "controllers",
    flag_value=False,
    default=True,
    help="Do not run the controllers on it.",
)


@click.command(short_help="Start a management control plane on this machine.")
@NAME_OPTION
@click.option("--detach", is_flag=True, help="Return when it is ready; `down` stops it.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Of the API server. Default: that of the run before, at first any that is free.",
)
@CONTROLLERS_OPTION
@click.option(
    "--with-kamaji",
    "kamaji",
    is_flag=True,
    help="With the real Kamaji, and two nodes on which its control planes run as processes.",
)
def up(name: str, *, detach: bool, port: int, controllers: bool, kamaji: bool) -> None:
    """Start a management control plane on this machine, with its controllers.

    It has the CRDs and the namespace dpf-operator-system. Its state is kept between runs, each
    --name for itself. Without --detach it runs until Ctrl-C.

    --with-kamaji needs no container runtime and no root. Everything runs in namespaces, with the
    virtual IPs 10.88.100.1 to 10.88.100.200 on the nodes' eth0 free for use; `dpucluster tenant`
    prints the kubeconfig with which a control plane is reached from here.

    Prints the lines that make kubectl use it: eval "$(dpucluster up --detach)".
    """
    from dpucluster.localplane import kept, progress  # noqa: PLC0415 - lazily, for a quick --help

    reporter = progress.for_stream()
    if detach:
        running = kept.detach(
            name, progress=reporter, controllers=controllers, kamaji=kamaji, port=port
        )
        tell(running, f"Stop it with: dpucluster down{_name_flag(name)}")
        return
    sys.exit(
        kept.up(
            name,
            progress=reporter,
            on_ready=lambda running: tell(running, "It runs until Ctrl-C."),
            controllers=controllers,
            kamaji=kamaji,
            port=port,
        )
    )


@click.command(short_help="Print the kubeconfig of a control plane that Kamaji runs.")
@NAME_OPTION
@click.option(
    "-n", "--namespace", default="default", show_default=True, help="Of the control plane's object."
)
@click.argument("tenant")
def tenant(tenant: str, *, name: str, namespace: str) -> None:
    """Print the administrator's kubeconfig of TENANT, for use on this machine.

    TENANT is a TenantControlPlane of a control plane that `up --with-kamaji` started:

        dpucluster tenant -n dpu-cplane one > one.conf
    """
    from dpucluster.localplane import kept  # noqa: PLC0415 - lazily, for a quick --help

    click.echo(kept.tenant_kubeconfig(name, namespace, tenant), nl=False)


@click.command(short_help="Stop a control plane that `up --detach` started.")
@NAME_OPTION
@click.option("--purge", is_flag=True, help="Delete its state, too.")
def down(name: str, *, purge: bool) -> None:
    """Stop a control plane of this machine; its state is kept unless --purge is given."""
    from dpucluster.localplane import kept  # noqa: PLC0415 - likewise

    ran = kept.down(name, purge=purge)
    done = "stopped" if ran else "did not run"
    click.echo(
        f"the control plane {name!r} {done}{'; its state is deleted' if purge else ''}", err=True
    )


@click.command(
    short_help="Run a command with throw-away control planes.",
    context_settings={"ignore_unknown_options": True},
    options_metavar="[OPTIONS] --",
)
@click.option(
    "--tenants",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    help="Tenant control planes beside the management one, 250 MB each.",
)
@CONTROLLERS_OPTION
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def testenv(command: tuple[str, ...], *, tenants: int, controllers: bool) -> None:
    """Run COMMAND with a throw-away management control plane, and tenants.

    COMMAND sees KUBECONFIG, TENANT_1_KUBECONFIG and so on, and kubectl on its PATH. Its exit
    code is passed on; nothing is left behind. Write -- before COMMAND:

        dpucluster testenv --tenants 1 -- kubectl get dpuclusters -A
    """
    from dpucluster.localplane import progress  # noqa: PLC0415 - likewise
    from dpucluster.localplane import testenv as environment  # noqa: PLC0415 - likewise

    if not environment.has_program(command[0]):
        click.echo(f"error: there is no program {command[0]!r}", err=True)
        sys.exit(NOT_FOUND)
    sys.exit(
        environment.run(
            command, progress=progress.for_stream(), tenants=tenants, controllers=controllers
        )
    )


@click.command(short_help="Get the control-plane binaries; print where they are.")
@click.option("--with-kamaji", "kamaji", is_flag=True, help="Also what `up --with-kamaji` needs.")
@click.option("--with-nodes", "nodes", is_flag=True, help="Also what the tests of `make e2e` need.")
def binaries(*, kamaji: bool, nodes: bool) -> None:
    """Get etcd, kube-apiserver, kube-controller-manager and kubectl; print their directory.

    What is missing is fetched or built: KUBEBUILDER_ASSETS=$(dpucluster binaries).
    """
    from dpucluster.localplane import binaries as programs  # noqa: PLC0415 - likewise
    from dpucluster.localplane import progress  # noqa: PLC0415 - likewise

    reporter = progress.for_stream()
    if kamaji or nodes:
        wanted = programs.KNOWN if nodes else programs.WITH_KAMAJI
        programs.ensure(wanted, progress=reporter)
    click.echo(programs.directory(progress=reporter))


commands: tuple[click.Command, ...] = (up, tenant, down, testenv, binaries)


def tell(running: kept.Running, ending: str) -> None:
    """Print how a plane is used."""
    from dpucluster.localplane import binaries as programs  # noqa: PLC0415 - likewise

    click.echo(f"The control plane {running.name!r} {_situation(running)}. {ending}", err=True)
    click.echo(f"export KUBECONFIG={shlex.quote(str(running.kubeconfig))}")
    for kubectl in programs.locate(("kubectl",)).values():
        for line in path_lines(kubectl):
            click.echo(line)


def path_lines(kubectl: Path) -> list[str]:
    """What puts ``kubectl`` on a shell's PATH; nothing if there is one on it."""
    if shutil.which("kubectl"):
        return []
    return [f'export PATH={shlex.quote(str(kubectl.parent))}:"$PATH"']


def _situation(running: kept.Running) -> str:
    if not running.was_running:
        return "is ready"
    return f"runs already on port {running.port}; its kubeconfig is {running.kubeconfig}"


def _name_flag(name: str) -> str:
    return "" if name == "default" else f" --name {name}"
