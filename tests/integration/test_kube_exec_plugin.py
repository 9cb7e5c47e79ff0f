"""Credential programs of the user's own kubeconfig, run for real."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpucluster import errors
from dpucluster.kube import client as kube_client
from dpucluster.kube import config, connection, exec_plugin, kinds
from tests.support import certificates
from tests.support.clock import FakeClock
from tests.support.proxy import TOKEN, ApiProxy

V1 = "client.authentication.k8s.io/v1"
CANARY = "canary-of-the-program"


def program(directory: Path, body: str) -> Path:
    """An executable that runs ``body``, after noting its call in ``calls``."""
    path = directory / "credentials"
    note = f"open({str(directory / 'calls')!r}, 'a').write('x')"
    head = f"#!{sys.executable}\nimport json, os, sys, time\n{note}\n"
    path.write_text(head + textwrap.dedent(body))
    path.chmod(0o755)
    return path


def printing(version: str = V1, **status: Any) -> str:
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": status}
    return f"print({json.dumps(json.dumps(answer))})"


def calls(directory: Path) -> int:
    path = directory / "calls"
    return len(path.read_text()) if path.exists() else 0


def plugin(
    directory: Path,
    clock: FakeClock | None = None,
    *,
    terminal: bool = False,
    env: Mapping[str, str] = os.environ,
    **fields: Any,
) -> exec_plugin.ExecPlugin:
    clock = clock or FakeClock()
    made = exec_plugin.ExecConfig(**{"api_version": V1, "command": "./credentials", **fields})
    return exec_plugin.ExecPlugin(
        made,
        directory,
        {"server": "https://a"},
        env=env,
        now=lambda: clock.now().timestamp(),
        monotonic=clock.monotonic,
        on_terminal=lambda: terminal,
    )


async def refused(source: exec_plugin.ExecPlugin) -> str:
    with pytest.raises(errors.ConfigError) as caught:
        await source.credentials()
    assert CANARY not in str(caught.value)
    return str(caught.value)


async def test_end_to_end(proxy: ApiProxy, tmp_path: Path) -> None:
    """A kubeconfig with a program connects; requests that need it at one time share a run."""
    program(
        tmp_path,
        f"""
        info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
        assert info["spec"]["cluster"]["server"] == {proxy.url!r}, info
        assert os.environ["EXTRA"] == "set" and sys.argv[1:] == ["--flag"]
        print(json.dumps({{**info, "spec": {{}}, "status": {{"token": {TOKEN!r}}}}}))
        """,
    )
    content = proxy.kubeconfig()
    content["users"][0]["user"] = {
        "exec": {
            "apiVersion": V1,
            "command": "./credentials",
            "args": ["--flag"],
            "env": [{"name": "EXTRA", "value": "set"}],
            "provideClusterInfo": True,
            "interactiveMode": "Never",
        }
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(content))
    async with kube_client.Client(config.load(str(path))) as client:
        await asyncio.gather(*(client.get(kinds.NAMESPACES, "default") for _ in range(10)))
        assert 1 == calls(tmp_path)


@pytest.mark.parametrize("version", sorted(exec_plugin.API_VERSIONS))
async def test_both_versions(tmp_path: Path, version: str) -> None:
    """Both versions of the protocol are spoken."""
    program(tmp_path, printing(version, token="t"))
    found = await plugin(tmp_path, api_version=version).credentials()
    assert connection.Credentials("t") == found


async def test_client_certificate(tmp_path: Path) -> None:
    """A program may give a certificate instead of a token."""
    pair = certificates.Authority().client("me")
    cert, key = pair.cert_pem.decode(), pair.key_pem.decode()
    program(tmp_path, printing(clientCertificateData=cert, clientKeyData=key))
    expected = connection.Credentials("", pair.cert_pem, pair.key_pem)
    assert expected == await plugin(tmp_path).credentials()


async def test_expiry(tmp_path: Path) -> None:
    """Credentials are kept until shortly before they expire."""
    clock = FakeClock()
    program(tmp_path, printing(token="t", expirationTimestamp="2026-01-01T00:10:00Z"))
    source = plugin(tmp_path, clock)
    await source.credentials()
    clock.skip(600 - exec_plugin.RENEW_BEFORE - 1)
    await source.credentials()
    assert 1 == calls(tmp_path)
    clock.skip(1)
    await source.credentials()
    assert 2 == calls(tmp_path)


async def test_rejected(tmp_path: Path) -> None:
    """A refusal runs the program again, once for all who were refused, and not all day."""
    clock = FakeClock()
    program(tmp_path, printing(token="t"))
    source = plugin(tmp_path, clock)
    old = await source.credentials()
    await source.credentials(rejected=old)
    assert 1 == calls(tmp_path)
    clock.skip(exec_plugin.MIN_INTERVAL)
    await asyncio.gather(*(source.credentials(rejected=old) for _ in range(5)))
    assert 2 == calls(tmp_path)
    await source.credentials(rejected=connection.Credentials("another"))
    assert 2 == calls(tmp_path)


@pytest.mark.parametrize(
    ("mode", "terminal", "expected"),
    [
        ("Never", True, False),
        ("IfAvailable", True, True),
        ("IfAvailable", False, False),
        ("Always", True, True),
    ],
)
async def test_interactive(tmp_path: Path, mode: str, terminal: bool, expected: bool) -> None:
    """The program is told whether it may ask, and gets no input where it may not."""
    program(
        tmp_path,
        """
        info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
        empty = os.fstat(0).st_rdev == os.stat(os.devnull).st_rdev
        token = f"{info['spec']['interactive']}-{'cluster' in info['spec']}"
        if info["spec"]["interactive"] or empty:
            print(json.dumps({**info, "status": {"token": token}}))
        """,
    )
    source = plugin(tmp_path, terminal=terminal, interactive_mode=mode)
    assert f"{expected}-False" == (await source.credentials()).token


async def test_wants_a_terminal(tmp_path: Path) -> None:
    """A program that must ask is not run where nobody can answer."""
    program(tmp_path, printing(token="t"))
    assert "wants a terminal" in await refused(plugin(tmp_path, interactive_mode="Always"))
    assert 0 == calls(tmp_path)


async def test_found_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name is looked up on PATH, not beside the kubeconfig."""
    program(tmp_path, printing(token="t"))
    hint = "get it from example.com"
    source = plugin(tmp_path, command="credentials", install_hint=hint)
    text = await refused(source)
    assert "cannot be started" in text
    assert hint in text
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "t" == (await source.credentials()).token


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ("sys.exit('not logged in')", "status 1: not logged in"),
        (f"print('{CANARY}')", "did not print an ExecCredential"),
        ("print('[]')", "did not print an ExecCredential"),
        (printing("client.authentication.k8s.io/v1beta1", token=CANARY), "did not print one of"),
        (printing(), "neither a token nor"),
        (printing(clientKeyData=CANARY), "half a client certificate"),
        (printing(token="t", expirationTimestamp="soon"), "did not print an ExecCredential"),
    ],
)
async def test_failures(tmp_path: Path, body: str, hint: str) -> None:
    """What goes wrong is told without what was printed."""
    program(tmp_path, body)
    assert hint in await refused(plugin(tmp_path))


async def test_hanging_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that cannot ask anybody and does not end is ended."""
    program(tmp_path, "open('pid', 'w').write(str(os.getpid())); time.sleep(600)")
    monkeypatch.chdir(tmp_path)
    pid = tmp_path / "pid"
    for limit in (1.0, 4.0, 16.0, 64.0):  # the first will do, unless the machine is very busy
        monkeypatch.setattr(exec_plugin, "TIME_LIMIT", limit)
        assert f"did not end within {limit:g} s" in await refused(plugin(tmp_path))
        if pid.exists() and pid.read_text():
            break
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
