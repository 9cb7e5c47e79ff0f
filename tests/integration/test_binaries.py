"""The real binaries this machine has (KUBEBUILDER_ASSETS, the cache, or got for this run)."""

from __future__ import annotations

import json
import subprocess

import pytest

from dpucluster.localplane import binaries, progress, release
from tests.support.patience import PATIENCE


@pytest.mark.timeout(1800)  # a first run builds them
@pytest.mark.parametrize("name", binaries.ALL)
def test_binary_reports_the_pinned_version(name: str) -> None:
    """Each binary is the version that go.mod pins, and says so."""
    path = binaries.ensure([name], progress=progress.for_stream())[name]
    arguments = ["version", "--client", "-o", "json"] if name == "kubectl" else ["--version"]

    said = subprocess.run(
        [path, *arguments], capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout

    match name:
        case "etcd":
            said = said.splitlines()[0]
            expected = f"etcd Version: {release.pins().etcd.removeprefix('v')}"
        case "kubectl":
            said = json.loads(said)["clientVersion"]["gitVersion"]
            expected = binaries.kubernetes_version()
        case _:
            said = said.strip()
            expected = f"Kubernetes {binaries.kubernetes_version()}"
    assert expected == said


def test_directory_holds_all_of_them() -> None:
    """What ``dpucluster binaries`` prints can be used as KUBEBUILDER_ASSETS."""
    folder = binaries.directory(progress=progress.for_stream())
    assets = {binaries.ASSETS_VARIABLE: str(folder), "HOME": "/nowhere"}
    assert binaries.locate(binaries.ALL, assets) == {name: folder / name for name in binaries.ALL}
