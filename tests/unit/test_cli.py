"""The command line before anything is started."""

from __future__ import annotations

import pathlib

import click
import pytest
from click.testing import CliRunner

import dpucluster
from dpucluster import errors
from dpucluster.cli import local, main, parameters, serve


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15s", 15.0), ("1m30s", 90.0), ("500ms", 0.5), ("2h", 7200.0), ("2.5", 2.5), ("1.5s", 1.5)],
)
def test_durations_are_written_as_in_go(text: str, seconds: float) -> None:
    """Every form that controller-runtime's flags accept, and plain seconds."""
    assert seconds == parameters.DURATION_TYPE.convert(text, None, None)


@pytest.mark.parametrize("text", ["", "s", "15x", "-3s", "0", "15s junk", "nan", "inf", "1e400"])
def test_other_durations_are_refused_with_what_is_accepted(text: str) -> None:
    """A typing error says what to write instead."""
    with pytest.raises(click.BadParameter):
        parameters.DURATION_TYPE.convert(text, None, None)


@pytest.mark.parametrize("command", list(main.COMMANDS))
def test_every_command_has_help(command: str) -> None:
    """Each command in the table exists and explains itself."""
    result = CliRunner().invoke(main.cli, [command, "--help"])
    assert 0 == result.exit_code, result.output
    assert result.output.startswith("Usage:")


def test_testenv_shows_where_its_command_begins() -> None:
    """The usage line has the -- that must stand before COMMAND."""
    usage = CliRunner().invoke(main.cli, ["testenv", "--help"]).output.splitlines()[0]
    assert usage.endswith("testenv [OPTIONS] -- COMMAND...")


def test_up_puts_kubectl_on_a_path_that_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """The line is printed only if there is no kubectl, and survives spaces."""
    kubectl = tmp_path / "a b" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.touch(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    assert [f"export PATH='{kubectl.parent}':\"$PATH\""] == local.path_lines(kubectl)
    monkeypatch.setenv("PATH", str(kubectl.parent))
    assert [] == local.path_lines(kubectl)


def test_the_version_comes_from_one_place() -> None:
    """``--version`` prints the package's version."""
    assert dpucluster.__version__ == CliRunner().invoke(main.cli, ["--version"]).output.strip()


def test_impossible_namespaces_are_refused() -> None:
    """A namespace that cannot exist would be waited for for ever."""
    result = CliRunner().invoke(main.cli, ["run", "--namespace", "A B"])
    assert 2 == result.exit_code
    assert "'A B' is no name of a namespace" in result.output


def test_unknown_roles_are_refused_with_the_known_ones() -> None:
    """A typing error in a role is no silent nothing."""
    result = CliRunner().invoke(main.cli, ["run", "statik"])
    assert 2 == result.exit_code
    assert "'lifecycle', 'static'" in result.output


def test_times_that_would_allow_two_leaders_are_refused() -> None:
    """The renew deadline must end before the Lease does."""
    with pytest.raises(errors.ConfigError, match="renew-deadline < lease-duration"):
        serve.Settings(renew_deadline=20.0)


def test_a_named_role_runs_alone() -> None:
    """``run static`` has the static stage and no other; without roles all are at hand."""
    assert ["static-cluster-manager"] == [
        s.component for s in serve.stages(serve.Settings(roles=("static",)))
    ]
    assert ["static-cluster-manager", "kamaji-cluster-manager", "provisioning-controller"] == [
        s.component for s in serve.stages(serve.Settings())
    ]
