"""What is pinned: versions, official archives, and the Go packages behind each binary.

Pure but for reading the packed ``go.mod`` files, which are the one place versions stand in. There
are two: the control plane's own, and Kamaji's, whose tenants run another Kubernetes. What comes
from the second is named ``kamaji/…``.
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
"""What every local control plane needs."""
KAMAJI = "kamaji/kamaji"
KAMAJI_MANIFESTS = "kamaji/manifests.json"
"""Kamaji's CRDs and ClusterRole, out of the module it is built from."""
TENANT = ("kamaji/kube-apiserver", "kamaji/kube-controller-manager", "kamaji/kube-scheduler")
"""What Kamaji's pods run."""
WITH_KAMAJI = ("kube-scheduler", KAMAJI_MANIFESTS, KAMAJI, *TENANT)
"""What a control plane with Kamaji needs beyond ``ALL``."""
NODE = ("kubelet", "kube-proxy")
"""What a node with containers needs; only the tests on such nodes ask for it."""

KUBERNETES_URL = "https://dl.k8s.io"
ETCD_URL = "https://github.com/etcd-io/etcd/releases/download"
KUBERNETES_URL_VARIABLE = "DPUCLUSTER_DOWNLOAD_URL_KUBERNETES"
ETCD_URL_VARIABLE = "DPUCLUSTER_DOWNLOAD_URL_ETCD"
OFF = "off"
"""Value of a URL variable: do not download, build."""

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_KUBERNETES_MODULE = "k8s.io/kubernetes"
_KAMAJI_MODULE = "github.com/clastix/kamaji"
_ETCD_MODULE = "go.etcd.io/etcd/server/v3"
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Pins:
    """Versions as one ``go.mod`` has them: ``v1.34.4``, ``v3.6.5``, and the Go it asks for.

    ``etcd`` is empty in Kamaji's, ``kamaji`` in the control plane's own.
    """

    kubernetes: str
    go: str
    etcd: str = ""
    kamaji: str = ""

    @property
    def module(self) -> str:
        """The folder of the module below ``controlplane``; empty for the control plane's own."""
        return "kamaji" if self.kamaji else ""


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


def module_file(name: str, module: str = "") -> Traversable:
    """``go.mod`` or ``go.sum`` of the module that programs are built from."""
    folder = importlib.resources.files("dpucluster") / "_data" / "controlplane"
    return (folder / module if module else folder) / name


def pins() -> Pins:
    """The pinned versions of the control plane itself."""
    return parse_pins(module_file("go.mod").read_text(encoding="utf-8"))


def pins_of(name: str) -> Pins:
    """The pinned versions of the module that ``name`` comes from."""
    if not name.startswith("kamaji/"):
        return pins()
    return parse_kamaji_pins(module_file("go.mod", "kamaji").read_text(encoding="utf-8"))


def parse_pins(go_mod: str) -> Pins:
    """The pinned versions in the text of the control plane's ``go.mod``."""
    return Pins(
        kubernetes=_required(go_mod, _KUBERNETES_MODULE, "controlplane"),
        etcd=_required(go_mod, _ETCD_MODULE, "controlplane"),
        go=_find(go_mod, r"^go (\S+)", "controlplane"),
    )


def parse_kamaji_pins(go_mod: str) -> Pins:
    """The pinned versions in the text of Kamaji's ``go.mod``."""
    return Pins(
        kubernetes=_required(go_mod, _KUBERNETES_MODULE, "controlplane/kamaji"),
        kamaji=_required(go_mod, _KAMAJI_MODULE, "controlplane/kamaji"),
        go=_find(go_mod, r"^go (\S+)", "controlplane/kamaji"),
    )


def _required(go_mod: str, module: str, where: str) -> str:
    return _find(go_mod, rf"^\s*(?:require )?{re.escape(module)} (v\S+)", where)


def _find(go_mod: str, pattern: str, where: str) -> str:
    match = re.search(pattern, go_mod, re.MULTILINE)
    if match is None:
        raise errors.BinaryError(
            f"{where}/go.mod has no line like {pattern!r}: this installation is damaged,"
            " install dpucluster again"
        )
    return match.group(1)


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
    if name in (KAMAJI, KAMAJI_MANIFESTS):
        return pinned.kamaji
    return pinned.etcd if name == ETCD else pinned.kubernetes


def package_of(name: str) -> str:
    """The Go package one binary is built from; of the manifests, the module they are in."""
    if name in (KAMAJI, KAMAJI_MANIFESTS):
        return _KAMAJI_MODULE
    return _ETCD_MODULE if name == ETCD else f"{_KUBERNETES_MODULE}/cmd/{file_of(name)}"


def file_of(name: str) -> str:
    """The file's own name: two modules have a kube-apiserver each."""
    return name.removeprefix("kamaji/")


def linker_flags(name: str, pinned: Pins) -> str:
    """What ``go build -ldflags`` gets; without the stamp a Kubernetes binary reports v0.0.0."""
    if name == ETCD:  # carries its version in the source
        return "-s -w"
    if name == KAMAJI:
        return f"-s -w -X {_KAMAJI_MODULE}/internal.GitTag={pinned.kamaji}"
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
    """Where the official archive of one binary is.

    ``None`` when downloads are switched off, and for Kamaji, which publishes no binary.

    Raises:
        BinaryError: the URL in the environment is neither HTTP(S) nor ``off``.
    """
    system, architecture = target()
    if name in (KAMAJI, KAMAJI_MANIFESTS):
        return None
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
        url = f"{base}/{pinned.kubernetes}/bin/{system}/{architecture}/{file_of(name)}"
        made = Archive(
            base=base,
            url=url,
            checksums_url=f"{url}.sha256",
            file=file_of(name),
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
