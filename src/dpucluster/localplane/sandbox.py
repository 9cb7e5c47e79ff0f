"""Namespaces of the kernel: made, entered, filled with a container. Run as a script.

::

    python -I -S sandbox.py hold PARENT KIND HOSTS         make namespaces, and keep them
    python -I -S sandbox.py enter PARENT WHERE COMMAND…    become COMMAND in them
    python -I -S sandbox.py apart PARENT WHERE COMMAND…    the same, with a network of its own
    python -I -S sandbox.py run PARENT FILE                run the container that FILE describes
    python -I -S sandbox.py exec PARENT FILE COMMAND…      run COMMAND in that container

``hold`` makes a network and a mount namespace, for the KIND ``user`` in a user namespace in which
this user is root, puts the file HOSTS over ``/etc/hosts``, says ``ready`` and waits. WHERE is the
process id of a holder, or the path of a network namespace. What was started ends when PARENT (a
process id) ends, whatever ended it; with the last process the kernel removes the namespaces, and
their networks and mounts with them.

A container is a process tree in namespaces of its own. ``run`` passes SIGTERM on to it, ends with
its exit code (128 + n for signal n), and takes all of it along when it is killed.

Standard library only, for speed: this is interpreted once for each program and each probe.
"""

import ctypes
import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

MS_RDONLY = 0x1
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
LAST_CAPABILITY = "/proc/sys/kernel/cap_last_cap"
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MS_RELATIME = 0x200000
LOCKED = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME
"""Flags that a mount must keep when it is mounted again, or the kernel refuses."""
ENDED_WITH_PARENT = 125
NOT_STARTED = 128
"""What container runtimes answer when the program could not be started."""

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> int:
    """A function of the C library; its failure is an ``OSError`` that names it."""
    made = [a.encode() if isinstance(a, str) else a for a in arguments]
    result: int = getattr(libc, name)(*made)
    if result < 0:
        code = ctypes.get_errno()
        shown = " ".join(str(a) for a in arguments if a is not None)
        raise OSError(code, f"{name}({shown}): {os.strerror(code)}")
    return result


def die_with(parent: int) -> None:
    """Be killed when ``parent`` ends; exit at once if it has already."""
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(ENDED_WITH_PARENT)


def become(command: list[str], env: Mapping[str, str]) -> NoReturn:
    """Replace this process with ``command``; never returns."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for signum in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    os.execvpe(command[0], command, env)  # noqa: S606 - no shell in between


def hold(parent: int, kind: str, hosts: str) -> NoReturn:
    """Make namespaces, tell that they are there, and wait for the end."""
    user, group = os.getuid(), os.getgid()
    flags = CLONE_NEWNS | CLONE_NEWNET
    call("unshare", flags | CLONE_NEWUSER if kind == "user" else flags)
    if kind == "user":
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"0 {user} 1")
        write("/proc/self/gid_map", f"0 {group} 1")
    die_with(parent)  # again: whoever gets capabilities forgets it
    call("mount", None, "/", None, MS_REC | MS_PRIVATE, None)
    call("mount", hosts, "/etc/hosts", None, MS_BIND, None)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        signal.pause()


def write(path: str, text: str) -> None:
    """Write a file of the kernel's, or a small one."""
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


def join(where: str) -> None:
    """Enter the namespaces of a holder, or one network namespace."""
    cwd = os.getcwd()
    if where.isdigit():
        enter_all([f"/proc/{where}/ns/{kind}" for kind in ("user", "mnt", "net")])
    else:
        enter_all([where])
    os.chdir(cwd)  # entering a mount namespace has moved us to its root


def enter_all(paths: list[str]) -> None:
    """Enter namespaces, but for those in which this process is already."""
    own = [os.stat(f"/proc/self/ns/{kind}") for kind in os.listdir("/proc/self/ns")]
    # Opened first: in the new mount namespace they may not be there.
    targets = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
    for target in targets:
        if not any(os.path.samestat(os.fstat(target), each) for each in own):
            call("setns", target, 0)


def enter(parent: int, where: str, command: list[str], *, apart: bool) -> NoReturn:
    """Become ``command`` in other namespaces."""
    join(where)
    if apart:
        call("unshare", CLONE_NEWNET | CLONE_NEWNS)
        call("mount", None, "/", None, MS_REC | MS_PRIVATE, None)
    die_with(parent)
    become(command, os.environ)


def run(parent: int, file: str) -> int:
    """Run a container to its end; its exit code."""
    with open(file, encoding="utf-8") as stream:
        spec = json.load(stream)
    if spec["network"]:
        join(spec["network"])
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC
    call("unshare", flags if spec["host_network"] else flags | CLONE_NEWUTS)
    die_with(parent)
    # Before there is a child, so that none is missed; passed on once there is one.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    alive, tied = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tied)
        first(spec, alive)
    os.close(alive)
    write(spec["pidfile"], str(child))
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def first(spec: dict[str, Any], alive: int) -> NoReturn:
    """Be the container's first process; never returns."""
    failure = os.open(spec["failure"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent has no number in here: its end of the pipe tells whether it is still there.
        if select.select([alive], [], [], 0)[0]:
            os._exit(ENDED_WITH_PARENT)
        os.close(alive)
        if not spec["host_network"]:
            name = spec["hostname"].encode()
            call("sethostname", name, len(name))
        fill(spec)
        move_to(spec["root"])
        for path in spec["read_only"]:
            make_read_only(path)
        os.chdir(spec["cwd"])
        confine(spec)
        become(spec["command"], spec["env"])
    except OSError as error:
        os.write(failure, str(error).encode())
        os._exit(NOT_STARTED)


def fill(spec: dict[str, Any]) -> None:
    """Mount the container's file system at its root."""
    root = spec["root"]
    call("mount", None, "/", None, MS_REC | MS_PRIVATE, None)
    call("mount", "tmpfs", root, "tmpfs", 0, "mode=755,size=64m")
    for number, mount in enumerate(spec["mounts"]):
        target = root + mount["target"]
        kind = mount["kind"]
        if kind == "link":
            os.symlink(mount["source"], target)
        elif kind == "file":
            os.makedirs(os.path.dirname(target), exist_ok=True)
            write(target, mount["text"])
        elif kind == "directory":
            os.makedirs(target, exist_ok=True)
            os.chmod(target, mount.get("mode", 0o755))
        else:
            make_point(target, is_file=kind == "bind" and os.path.isfile(mount["source"]))
            attach(mount, target, layer=f"{root}/.layers/{number}")


def attach(mount: dict[str, Any], target: str, layer: str) -> None:
    """One mount; ``layer`` is where the changes of an overlay may go."""
    kind, source = mount["kind"], mount.get("source", "")
    if kind == "bind":
        call("mount", source, target, None, MS_BIND | MS_REC, None)
        if mount.get("read_only"):
            make_read_only(target)
    elif kind == "overlay":
        for part in ("upper", "work"):
            os.makedirs(f"{layer}/{part}")
        options = f"lowerdir={source},upperdir={layer}/upper,workdir={layer}/work"
        options += ",userxattr" if mount.get("userxattr") else ""
        call("mount", "overlay", target, "overlay", 0, options)
    else:
        call("mount", kind, target, kind, 0, mount.get("options"))


def make_point(target: str, *, is_file: bool) -> None:
    """Make what a mount needs to be put on."""
    if os.path.lexists(target):
        return
    if not is_file:
        os.makedirs(target, exist_ok=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def make_read_only(target: str) -> None:
    """Let nobody write below a mount point."""
    kept = os.statvfs(target).f_flag & LOCKED
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_RELATIME | kept
    call("mount", None, target, None, flags, None)


def move_to(root: str) -> None:
    """Make ``root`` the root of this mount namespace, and forget all other mounts."""
    os.chdir(root)
    call(
        "syscall", SYS_PIVOT_ROOT[os.uname().machine], ctypes.c_char_p(b"."), ctypes.c_char_p(b".")
    )
    call("umount2", ".", MNT_DETACH)  # the old root, which now lies on top
    os.chdir("/")


def confine(spec: dict[str, Any]) -> None:
    """Give up what the container is not meant to have."""
    if spec["capabilities"] is not None:
        with open(LAST_CAPABILITY) as stream:
            last = int(stream.read())
        for number in range(last + 1):
            if number not in spec["capabilities"]:
                call("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)
    if spec["no_new_privileges"]:
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def execute(parent: int, file: str, command: list[str]) -> int:
    """Run ``command`` in a container that runs; its exit code."""
    with open(file, encoding="utf-8") as stream:
        spec = json.load(stream)
    with open(spec["pidfile"]) as stream:
        pid = int(stream.read())
    enter_all([f"/proc/{pid}/ns/{kind}" for kind in ("net", "ipc", "uts", "pid", "mnt")])
    die_with(parent)
    alive, tied = os.pipe()
    child = os.fork()  # only what is forked is in the process namespace
    if child == 0:
        os.close(tied)
        call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if select.select([alive], [], [], 0)[0]:
            os._exit(ENDED_WITH_PARENT)
        os.chdir(spec["cwd"])
        confine(spec)
        become(command, spec["env"])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def main(arguments: list[str]) -> None:
    """The forms of the command line."""
    form, parent, *rest = arguments
    die_with(int(parent))
    if form == "hold":
        hold(int(parent), *rest)
    elif form in ("enter", "apart"):
        enter(int(parent), rest[0], rest[1:], apart=form == "apart")
    elif form == "run":
        sys.exit(run(int(parent), rest[0]))
    else:
        sys.exit(execute(int(parent), rest[0], rest[1:]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(126)
