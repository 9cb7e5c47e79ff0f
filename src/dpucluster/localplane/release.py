"""What is pinned: versions, official archives, and the Go packages behind each binary.

Pure but for reading the packed ``go.mod``, which is the one place versions stand in.
"""

from __future__ import annotations

import importlib.resources
import platform
import re
import sys
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from dpucluster import errors

ETCD = "etcd"
ALL = (ETCD, "kube-apiserver", "kube-controller-manager", "kubectl")

KUBERNETES_URL = "https://dl.k8s.io"
ETCD_URL = "https://github.com/etcd-io/etcd/releases/download"
KUBERNETES_URL_VARIABLE = "DPUCLUSTER_DOWNLOAD_URL_KUBERNETES"
ETCD_URL_VARIABLE = "DPUCLUSTER_DOWNLOAD_URL_ETCD"
OFF = "off"
"""Value of a URL variable: do not download, build."""

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_KUBERNETES_MODULE = "k8s.io/kubernetes"
_ETCD_MODULE = "go.etcd.io/etcd/server/v3"
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Pins:
    """Versions as ``go.mod`` has them: ``v1.34.4``, ``v3.6.5``, and the Go it asks for."""

    kubernetes: str
    etcd: str
    go: str


@dataclass(frozen=True)
class Archive:
    """One official download.

    ``member`` is the binary's path inside a tar, empty where the file is the binary itself;
    ``variable`` names the environment variable that moves ``base``.
    """

    base: str
    url: str
    checksums_url: str
    file: str
    member: str
    variable: str

    @property
    def host(self) -> str:
        """The host it comes from, for people."""
        return urllib.parse.urlsplit(self.base).netloc


def module_file(name: str) -> Traversable:
    """``go.mod`` or ``go.sum`` of the module the control plane is built from."""
    return importlib.resources.files("dpucluster") / "_data" / "controlplane" / name


def pins() -> Pins:
    """The pinned versions."""
    return parse_pins(module_file("go.mod").read_text(encoding="utf-8"))


def parse_pins(go_mod: str) -> Pins:
    """The pinned versions in the text of a ``go.mod``."""

    def find(pattern: str) -> str:
        match = re.search(pattern, go_mod, re.MULTILINE)
        if match is None:
            raise errors.BinaryError(
                f"controlplane/go.mod has no line like {pattern!r}: this installation is damaged,"
                " install dpucluster again"
            )
        return match.group(1)

    return Pins(
        kubernetes=find(rf"^\s*(?:require )?{re.escape(_KUBERNETES_MODULE)} (v\S+)"),
        etcd=find(rf"^\s*(?:require )?{re.escape(_ETCD_MODULE)} (v\S+)"),
        go=find(r"^go (\S+)"),
    )


def target() -> tuple[str, str]:
    """Operating system and architecture of this machine, in Go's words.

    Raises:
        BinaryError: there is no local control plane for this machine.
    """
    machine = platform.machine().lower()
    if not sys.platform.startswith("linux") or machine not in _ARCHITECTURES:
        raise errors.BinaryError(
            f"the local control plane runs on Linux amd64 and arm64, not on {sys.platform}"
            f" {machine}: use an existing cluster (--kubeconfig)"
        )
    return "linux", _ARCHITECTURES[machine]


def version_of(name: str, pinned: Pins) -> str:
    """The pinned version of one binary."""
    return pinned.etcd if name == ETCD else pinned.kubernetes


def package_of(name: str) -> str:
    """The Go package one binary is built from."""
    return _ETCD_MODULE if name == ETCD else f"{_KUBERNETES_MODULE}/cmd/{name}"


def linker_flags(name: str, pinned: Pins) -> str:
    """What ``go build -ldflags`` gets; without the stamp a Kubernetes binary reports v0.0.0."""
    if name == ETCD:  # carries its version in the source
        return "-s -w"
    major, minor, _ = pinned.kubernetes.removeprefix("v").split(".", 2)
    stamp = {
        "gitVersion": pinned.kubernetes,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    variables = (f"-X k8s.io/component-base/version.{k}={v}" for k, v in stamp.items())
    return " ".join(("-s -w", *variables))


def archive(name: str, pinned: Pins, env: Mapping[str, str]) -> Archive | None:
    """Where the official archive of one binary is; ``None`` when downloads are switched off.

    Raises:
        BinaryError: the URL in the environment is neither HTTP(S) nor ``off``.
    """
    system, architecture = target()
    if name == ETCD:
        base = _base(env, ETCD_URL_VARIABLE, ETCD_URL)
        folder = f"etcd-{pinned.etcd}-{system}-{architecture}"
        file = f"{folder}.tar.gz"
        where = f"{base}/{pinned.etcd}"
        made = Archive(
            base=base,
            url=f"{where}/{file}",
            checksums_url=f"{where}/SHA256SUMS",
            file=file,
            member=f"{folder}/etcd",
            variable=ETCD_URL_VARIABLE,
        )
    else:
        base = _base(env, KUBERNETES_URL_VARIABLE, KUBERNETES_URL)
        url = f"{base}/{pinned.kubernetes}/bin/{system}/{architecture}/{name}"
        made = Archive(
            base=base,
            url=url,
            checksums_url=f"{url}.sha256",
            file=name,
            member="",
            variable=KUBERNETES_URL_VARIABLE,
        )
    return made if base else None


def _base(env: Mapping[str, str], variable: str, default: str) -> str:
    """The base URL to use, empty for none."""
    url = (env.get(variable) or default).rstrip("/")
    if url == OFF:
        return ""
    if not url.startswith(("https://", "http://")):
        raise errors.BinaryError(
            f"{variable}={url}: not an http or https URL; unset it, or set it to {OFF!r} to build"
            " from source"
        )
    return url


def published_digest(text: str, file: str) -> str | None:
    """The SHA-256 that a checksum file publishes for ``file``, in lower case.

    Both forms in use are read: a bare digest, and ``sha256sum``'s lines of digest and name.
    """
    for line in text.splitlines():
        match line.split():
            case [digest] if _DIGEST.fullmatch(digest):
                return digest.lower()
            case [digest, name] if _DIGEST.fullmatch(digest) and name.lstrip("*") == file:
                return digest.lower()
            case _:
                continue
    return None
