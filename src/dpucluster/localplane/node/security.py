"""What a container may do, as numbers of the kernel. Pure."""

from __future__ import annotations

from dpucluster.localplane.node import pods

CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""All of them; the place in this list is the number."""
USUAL = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
    "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
"""What container runtimes leave a container without being asked."""


def capabilities(context: pods.SecurityContext) -> list[int] | None:
    """The capabilities a container keeps; None for all there are."""
    if context.privileged or "ALL" in context.capabilities.add:
        return None
    kept = set() if "ALL" in context.capabilities.drop else set(USUAL)
    kept -= set(map(_plain, context.capabilities.drop))
    kept |= set(map(_plain, context.capabilities.add))
    return sorted(CAPABILITIES.index(name) for name in kept if name in CAPABILITIES)


def _plain(name: str) -> str:
    return name.upper().removeprefix("CAP_")
