"""The image of keepalived, built from its recipe and run as the DaemonSet runs it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import containers, image_build, lan, virtual_ip

RECIPE = Path(__file__).resolve().parents[2] / "deploy/image/keepalived"
TAG = "localhost/keepalived:test"
NODE = "n1"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image's file system."""
    if lacking := image_build.lacking():
        pytest.skip(f"the image of keepalived was NOT built: that needs {lacking}")
    with image_build.Builder(tmp_path_factory.mktemp("image")) as builder:
        builder.build(RECIPE, TAG)
        with builder.unpacked(TAG) as root:
            yield root


def test_the_image_has_the_version_that_was_tested(image: Path) -> None:
    """Its keepalived is the one whose behaviour the configuration rests on."""
    done = subprocess.run(
        ["chroot", image, "keepalived", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stderr.startswith("Keepalived v2.2.7 ")


def test_the_check_directory_is_roots_alone(image: Path) -> None:
    """Nobody but root may write where the check program is mounted, nor above it."""
    path = image / "usr/local/libexec/dpucluster"
    above = [image, *(image / p for p in path.relative_to(image).parents), path]
    stats = [p.stat() for p in above]
    assert {(0, 0, 0)} == {(s.st_uid, s.st_gid, s.st_mode & 0o022) for s in stats}


def test_keepalived_in_the_image_accepts_the_configuration(image: Path, tmp_path: Path) -> None:
    """The container's own command line, in the image, has nothing to say against it."""
    having = virtual_ip.Program(image=image)
    with lan.Lan() as network:
        host = network.add(NODE, "10.77.0.11/24")
        made = virtual_ip.objects([virtual_ip.node(NODE, "10.77.0.11")], "10.77.0.100")
        pod = virtual_ip.pod(made, NODE, "10.77.0.11", having, arguments=("--config-test",))
        test = containers.Container(pod, host, tmp_path / "test")
        test.start()
        assert (0, "") == (test.wait(), test.log)


def test_the_image_holds_an_address(image: Path, tmp_path: Path) -> None:
    """A pod of it checks the API server, is ready, and holds the address."""
    having = virtual_ip.Program(image=image)
    with lan.Lan("10.77.0.1/24") as network:
        network.add(NODE, "10.77.0.11/24")
        with virtual_ip.VirtualIP(network, tmp_path, having, vip="10.77.0.100") as running:
            running.start()
            running.settles(NODE)
            assert "200" == running.ask()
            probes = ("livenessProbe", "readinessProbe")
            assert [0, 0] == [running.containers[NODE].probe(probe) for probe in probes]
