"""The entry point of ``dpucluster`` and ``kubectl dpucluster``."""

from __future__ import annotations

import importlib
import os
import sys

import click

import dpucluster
from dpucluster import errors

COMMANDS = {
    "run": ("dpucluster.cli.run", "Run the controllers."),
    "up": ("dpucluster.cli.local", "Start a management control plane on this machine."),
    "tenant": ("dpucluster.cli.local", "Print the kubeconfig of a control plane that Kamaji runs."),
    "down": ("dpucluster.cli.local", "Stop a control plane that `up --detach` started."),
    "testenv": ("dpucluster.cli.local", "Run a command with throw-away control planes."),
    "binaries": ("dpucluster.cli.local", "Get the control-plane binaries; print where they are."),
    "demo": ("dpucluster.cli.demo", "Show the guide's flows on real control planes."),
}
"""Command → the module that has it, imported when it is used, and the line in ``--help``."""

SIGINT_EXIT = 130


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used.

    ``dpucluster --help`` then costs neither asyncio nor aiohttp.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and take the command out of it."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dpucluster.__version__, message="%(version)s")
def cli() -> None:
    """Kubernetes control planes for DPUs: DPUCluster and DPFOperatorConfig of NVIDIA DPF."""


def main() -> None:
    """Run a command; errors are sentences, a traceback only with DPUCLUSTER_DEBUG=1.

    Exit codes: 0, 1 for an error, 2 for a wrong command line, 130 after Ctrl-C; a command's own.
    """
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = SIGINT_EXIT
    except errors.DpuClusterError as error:
        if os.environ.get("DPUCLUSTER_DEBUG") == "1":
            raise
        click.echo(f"error: {error}", err=True)
        code = 1
    sys.exit(code)
