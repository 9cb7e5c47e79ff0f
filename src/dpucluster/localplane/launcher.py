"""Starts a program so that it cannot outlive its parent. Run as a script, never imported.

::

    python -I -S launcher.py exec PARENT COMMAND…     become COMMAND
    python -I -S launcher.py guard PARENT COMMAND…    run COMMAND, then end all it has left behind

The kernel kills COMMAND when PARENT (a process id) ends, whatever ended it. ``guard`` stays in
between: it adopts what COMMAND's own children leave behind (a child subreaper), so that nothing
remains when COMMAND ends or when PARENT is killed; SIGTERM, SIGHUP and SIGUSR1 (as SIGINT) are
passed on to COMMAND, SIGUSR2 ends everything at once, and COMMAND's exit code is the guard's
(128 + n for signal n).

Standard library only, for speed: this is interpreted once for each process of a plane.
"""

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
NOT_FOUND = 127
"""What shells answer for a program that is not there."""
ENDED_WITH_PARENT = 125
ENDED_AT_ONCE = 128 + signal.SIGKILL
ADOPTION_PAUSE = 0.02
"""Between two looks for descendants that the guard has killed: it takes the kernel a moment."""


def prctl(option: int, value: int) -> None:
    """Set a property of this process that the next program keeps."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def die_with(parent: int, signum: int) -> None:
    """Have the kernel send ``signum`` when ``parent`` ends; exit at once if it has already."""
    prctl(PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os._exit(ENDED_WITH_PARENT)


def become(command: list[str]) -> None:
    """Replace this process with ``command``; never returns."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # Python ignores these two, and what is ignored stays so in the next program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - a shell in between is what nobody wants
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else 126)


def guard(parent: int, command: list[str]) -> int:
    """Run ``command``, end everything it has left behind, and return its exit code."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    guardian = os.getpid()
    child = 0

    def forward(signum: int, _frame: object) -> None:
        if signum == signal.SIGUSR2 or os.getppid() != parent:
            end_all()
            os._exit(ENDED_AT_ONCE)
        if child:
            os.kill(child, signal.SIGINT if signum == signal.SIGUSR1 else signum)

    passed_on = {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
    signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
    # The terminal tells COMMAND itself; a handler, because what is ignored would be inherited.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGQUIT, lambda *_: None)
    for signum in passed_on:
        signal.signal(signum, forward)
    die_with(parent, signal.SIGTERM)
    child = os.fork()
    if child == 0:
        # What is sent to it from now on is for COMMAND, not for the guard's handlers.
        for signum in (*passed_on, signal.SIGINT, signal.SIGQUIT):
            signal.signal(signum, signal.SIG_DFL)
        die_with(guardian, signal.SIGKILL)
        become(command)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
    code = wait_for(child)
    child = 0
    end_all()
    return code


def wait_for(child: int) -> int:
    """Reap adopted processes until ``child`` itself has ended; its exit code."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def end_all() -> None:
    """Kill every descendant: children of the killed are adopted, hence found in the next round."""
    while True:
        children = children_of(os.getpid())
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(ADOPTION_PAUSE)


def children_of(pid: int) -> list[int]:
    """The children of ``pid`` (from each process's stat: the kernel need not be built for more)."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - pathlib costs start-up time
        try:
            with open(f"/proc/{entry}/stat", "rb") as stat:  # noqa: PTH123 - likewise
                # "pid (name) state ppid …", where the name may hold anything.
                parent = int(stat.read().rpartition(b")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found.append(int(entry))
    return found


def main(arguments: list[str]) -> None:
    """The two forms of the command line."""
    form, parent, *command = arguments
    if form == "guard":
        sys.exit(guard(int(parent), command))
    die_with(int(parent), signal.SIGKILL)
    become(command)


if __name__ == "__main__":
    main(sys.argv[1:])
