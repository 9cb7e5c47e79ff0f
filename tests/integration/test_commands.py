"""The command line as a process: what a user sees before anything is started."""

from __future__ import annotations

import subprocess
import sys

from dpucluster.cli import main


def test_help_lists_every_command_without_importing_it() -> None:
    """``--help`` costs neither asyncio nor aiohttp."""
    code = (
        "import sys; from dpucluster.cli import main\n"
        "try: main.cli(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('aiohttp' in sys.modules or 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    for command in main.COMMANDS:
        assert f"  {command} " in done.stdout


def test_an_error_is_a_sentence() -> None:
    """A missing kubeconfig is one line on standard error and exit code 1, no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "dpucluster", "run", "--kubeconfig", "does-not-exist"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 1 == done.returncode
    assert "Traceback" not in done.stderr
    assert "does-not-exist" in done.stderr
