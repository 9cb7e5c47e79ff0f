"""The command line of kube-scheduler."""

from __future__ import annotations

from pathlib import Path

USER = "system:kube-scheduler"


def command(binary: Path, kubeconfig: Path) -> list[str]:
    """The whole command line."""
    flags = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "profiling": "false",
    }
    return [str(binary), *(f"--{flag}={value}" for flag, value in flags.items())]
