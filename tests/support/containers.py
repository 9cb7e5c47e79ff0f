"""Runs the one container of a pod spec as a kubelet and a container runtime would.

In an image that is unpacked, or with the machine's own programs in place of it. All else is taken
from the pod spec: command, variables, volumes with their modes, capabilities, the read-only root,
probes. What this does not know how to do fails.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import lan

IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IMAGE_TOPS = ("/etc", "/usr/local", "/run")
"""Where a pod may mount something; there the machine's own files are covered."""
REFERENCE = re.compile(r"\$\((\w+)\)")
PAUSE = 0.02


@dataclass(frozen=True)
class Pod:
    """What a container runs with.

    Attributes:
        spec: The pod's.
        fields: What variables may refer to (``spec.nodeName``).
        contents: What the API server has: ``configMap/<name>`` or ``secret/<name>`` → its keys.
        path: Directories of programs that are searched before those of the image.
        variables: That the image would set.
        arguments: More of them for its program.
        image: The root of its file system; None: this machine's own.
    """

    spec: Mapping[str, Any]
    fields: Mapping[str, str]
    contents: Mapping[str, Mapping[str, str]]
    path: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    image: Path | None = None

    @property
    def container(self) -> Mapping[str, Any]:
        """The only one."""
        (found,) = self.spec["containers"]
        return dict(found)

    def environment(self) -> dict[str, str]:
        """All its variables."""
        made = {"PATH": ":".join((*self.path, IMAGE_PATH)), "HOME": "/root", **self.variables}
        for variable in self.container["env"]:
            if "valueFrom" in variable:
                made[variable["name"]] = self.fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                made[variable["name"]] = variable["value"]
        return made

    def command(self) -> list[str]:
        """Its program and arguments."""
        env = self.environment()
        parts = (*self.container["command"], *self.arguments)
        return [REFERENCE.sub(lambda m: env[m.group(1)], part) for part in parts]

    def confined(self, command: Sequence[str]) -> list[str]:
        """The command line that runs ``command`` with the container's rights and variables."""
        context = self.container["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"]
        added = [f"+{name.lower()}" for name in context["capabilities"]["add"]]
        rights = [f"--bounding-set={','.join(('-all', *added))}", "--inh-caps=-all"]
        if not context["allowPrivilegeEscalation"]:
            rights.append("--no-new-privs")
        variables = [f"{name}={value}" for name, value in self.environment().items()]
        return ["setpriv", *rights, "--", "env", "-i", *variables, *command]


class Container:
    """A container that runs in a node's network, in a mount and a process namespace of its own."""

    def __init__(self, pod: Pod, node: lan.Node, directory: Path) -> None:
        self.pod = pod
        self._node = node
        self._directory = directory
        self._runs = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it (again, after its end)."""
        assert self.pod.spec["hostNetwork"] is True
        self._runs += 1
        directory = self._directory / f"run-{self._runs}"
        directory.mkdir(parents=True)
        script = "\n".join(self._script(directory))
        apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._node.namespace.inside(*apart, "sh", "-euc", script),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def _log(self) -> Path:
        return self._directory.with_suffix(".log")

    @property
    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        """Its first process, as this machine counts."""
        assert self._process is not None
        (child,) = _children(self._process.pid)
        return child

    def processes(self) -> list[int]:
        """All its processes."""
        return [self.pid, *_descendants(self.pid)]

    def wait(self) -> int:
        """The exit code, at its end."""
        assert self._process is not None
        return self._process.wait(lan.COMMAND_TIMEOUT)

    def terminate(self) -> None:
        """End it as the deletion of its pod does, and wait for the end."""
        os.kill(self.pid, signal.SIGTERM)
        grace = self.pod.spec["terminationGracePeriodSeconds"]
        assert self._process is not None
        self._process.wait(grace)

    def kill(self) -> None:
        """End it at once, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def probe(self, kind: str) -> int:
        """The exit code of a probe (``livenessProbe``)."""
        probe = self.pod.container[kind]
        into = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--root", "--"]
        command = [*lan.DIE_WITH_US, *into, *self.pod.confined(probe["exec"]["command"])]
        return subprocess.run(command, timeout=probe["timeoutSeconds"], check=False).returncode

    # The file system

    def _script(self, directory: Path) -> Iterator[str]:
        root = str(self.pod.image or "")
        yield "mount --make-rprivate /"
        yield from (
            self._own_root(directory)
            if not root
            else (
                f"mount --bind {root} {root}",
                f"mount --rbind /dev {root}/dev",
            )
        )
        volumes = {volume["name"]: volume for volume in self.pod.spec["volumes"]}
        for mount in self.pod.container["volumeMounts"]:
            yield from self._mount(mount, volumes[mount["name"]], directory, root)
        yield f"mount -t proc proc {root}/proc"
        yield f"mount -t sysfs -o ro sysfs {root}/sys"
        yield f"mount -t tmpfs -o ro tmpfs {root}/tmp"  # noqa: S108 - in the container
        if self.pod.container["securityContext"]["readOnlyRootFilesystem"]:
            for top in (root,) if root else (*IMAGE_TOPS, "/"):
                yield f"mount -o remount,bind,ro {top}"
        yield "cd /"
        into = ["chroot", root] if root else []
        yield "exec " + shlex.join([*into, *self.pod.confined(self.pod.command())])

    def _own_root(self, directory: Path) -> Iterator[str]:
        scratch = directory / "scratch"
        scratch.mkdir()
        yield f"mount -t tmpfs tmpfs {scratch}"
        for number, top in enumerate(IMAGE_TOPS):
            layers = f"{scratch}/{number}"
            yield f"mkdir -p {layers}/upper {layers}/work"
            options = f"lowerdir={top},upperdir={layers}/upper,workdir={layers}/work"
            yield f"mount -t overlay -o {options} overlay {top}"

    def _mount(
        self, mount: Mapping[str, Any], volume: Mapping[str, Any], directory: Path, root: str
    ) -> Iterator[str]:
        assert mount["mountPath"].startswith(tuple(f"{top}/" for top in IMAGE_TOPS))
        target = root + mount["mountPath"]
        if "emptyDir" in volume:
            assert volume["emptyDir"]["medium"] == "Memory"
            size = volume["emptyDir"]["sizeLimit"].removesuffix("i").lower()
            yield f"mkdir -p {target}"
            yield f"mount -t tmpfs -o mode=777,size={size} tmpfs {target}"
            return
        source = self._fill(volume, directory / volume["name"])
        if "subPath" in mount:
            source = (source / mount["subPath"]).resolve()
            yield f"mkdir -p {Path(target).parent}"
            yield f"touch {target}"
        else:
            yield f"mkdir -p {target}"
        yield f"mount --bind {source} {target}"
        if mount.get("readOnly"):
            yield f"mount -o remount,bind,ro {target}"

    def _fill(self, volume: Mapping[str, Any], directory: Path) -> Path:
        """A volume as the kubelet writes it: links into a directory that can be exchanged."""
        (kind,) = volume.keys() - {"name"}
        source = volume[kind]
        name = source["name" if kind == "configMap" else "secretName"]
        content = self.pod.contents[f"{kind}/{name}"]
        data = directory / "..2024_01_01"
        data.mkdir(parents=True)
        directory.chmod(0o777)
        (directory / "..data").symlink_to(data.name)
        for item in source["items"]:
            path = data / item["path"]
            path.write_text(content[item["key"]], encoding="utf-8")
            path.chmod(source["defaultMode"])
            (directory / item["path"]).symlink_to(f"..data/{item['path']}")
        return directory


def _children(pid: int, patience: float = 5.0) -> list[int]:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if found:
            return [int(child) for child in found]
        time.sleep(PAUSE)
    return []


def _descendants(pid: int) -> list[int]:
    children = _children(pid, patience=0.1)
    return [*children, *(grand for child in children for grand in _descendants(child))]
