"""The user's own kubeconfig, as kubectl reads it."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpucluster import errors
from dpucluster.kube import config, connection, credential_files, exec_plugin

B64 = base64.b64encode(b"data").decode()


def kubeconfig(
    name: str = "a", *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A kubeconfig whose parts all have one name."""
    return {
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:1", **(cluster or {})}}],
        "users": [{"name": name, "user": {"token": f"token-{name}"} if user is None else user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def written(path: Path, content: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def load(tmp_path: Path, content: Any, context: str | None = None) -> connection.Connection:
    return config.load(written(tmp_path / "config", content), context, env={})


def refused(tmp_path: Path, content: Any, context: str | None = None) -> str:
    with pytest.raises(errors.ConfigError) as caught:
        load(tmp_path, content, context)
    return str(caught.value)


def static(found: connection.Connection) -> connection.Credentials:
    assert isinstance(found.credentials, connection.StaticCredentials)
    return found.credentials.value


def test_inline(tmp_path: Path) -> None:
    """Inline data arrives as it is, and beats the files beside it."""
    cluster = {
        "certificate-authority-data": B64,
        "certificate-authority": "missing",
        "tls-server-name": "inner",
        "proxy-url": "http://proxy:1",
    }
    user = {
        "client-certificate-data": B64,
        "client-key-data": B64,
        "client-key": "missing",
        "as": "other",
        "as-uid": "1",
        "as-groups": ["g"],
        "as-user-extra": {"scope": ["x", "y"]},
    }
    content = kubeconfig(cluster=cluster, user=user)
    content["contexts"][0]["context"]["namespace"] = "inside"
    found = load(tmp_path, content)
    expected = connection.Connection(
        "https://a:1",
        b"data",
        tls_server_name="inner",
        proxy_url="http://proxy:1",
        namespace="inside",
        context="a",
        impersonate=connection.Impersonation(
            "other", "1", ("g",), (("scope", "x"), ("scope", "y"))
        ),
        credentials=found.credentials,
    )
    assert expected == found
    assert isinstance(found.credentials, credential_files.CredentialFiles)
    assert connection.Credentials("", b"data", b"data") == found.credentials.given
    assert found.credentials.client_key is None


def test_files_start_at_their_kubeconfig(tmp_path: Path) -> None:
    """Relative paths are relative to the file that names them."""
    written(tmp_path / "sub" / "ca.crt", "authority")
    user = {"client-certificate": "c.crt", "client-key": "/abs/c.key", "tokenFile": "t"}
    content = kubeconfig(cluster={"certificate-authority": "ca.crt"}, user=user)
    found = config.load(written(tmp_path / "sub" / "config", content), env={})
    assert b"authority" == found.ca_data
    expected = credential_files.CredentialFiles(
        token=tmp_path / "sub" / "t",
        client_cert=tmp_path / "sub" / "c.crt",
        client_key=Path("/abs/c.key"),
    )
    assert expected == found.credentials


def test_list_of_files_merges(tmp_path: Path) -> None:
    """Of several files the first one that says something wins; missing ones are left out."""
    first, second = kubeconfig("a"), kubeconfig("b")
    del first["current-context"]
    second["clusters"] += kubeconfig("a", cluster={"server": "https://other:1"})["clusters"]
    paths = [
        str(tmp_path / "missing"),
        written(tmp_path / "1", first),
        "",
        written(tmp_path / "2", second),
        written(tmp_path / "3", kubeconfig("c")),
    ]
    env = {"KUBECONFIG": os.pathsep.join(paths)}
    assert "https://b:1" == config.load(env=env).server
    assert "https://a:1" == config.load(context="a", env=env).server


def test_precedence(tmp_path: Path) -> None:
    """The flag beats KUBECONFIG, which beats the Pod, which beats the home directory."""
    home = written(tmp_path / ".kube" / "config", kubeconfig("home"))
    named = written(tmp_path / "named", kubeconfig("named"))
    env = {"HOME": str(tmp_path)}
    assert "home" == config.load(env=env).context
    env["KUBECONFIG"] = named
    assert "named" == config.load(env=env).context
    env["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    assert "named" == config.load(env=env).context
    assert "home" == config.load(home, env=env).context


def test_nothing_there(tmp_path: Path) -> None:
    """Without any configuration the user is told where one could be."""
    with pytest.raises(errors.ConfigError, match="give --kubeconfig, set KUBECONFIG"):
        config.load(env={"HOME": str(tmp_path)})


def test_missing_file(tmp_path: Path) -> None:
    """A file given by flag must be there."""
    with pytest.raises(errors.ConfigError, match="No such file"):
        config.load(str(tmp_path / "no"), env={})


def service_account(tmp_path: Path) -> Path:
    for name in ("token", "ca.crt", "namespace"):
        written(tmp_path / name, f"{name}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("host", "expected"),
    [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
)
def test_in_cluster(tmp_path: Path, host: str, expected: str) -> None:
    """A Pod's account needs no file of configuration."""
    root = service_account(tmp_path)
    found = config.in_cluster(root, env={"KUBERNETES_SERVICE_HOST": host})
    assert (expected, b"ca.crt\n", "namespace") == (found.server, found.ca_data, found.namespace)
    assert credential_files.CredentialFiles(token=root / "token") == found.credentials


def test_not_in_cluster() -> None:
    """Outside of a Pod that is said."""
    with pytest.raises(errors.ConfigError, match="not in a Pod"):
        config.in_cluster(env={})


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("a: [", "is not YAML (line"),
        ("\x00", "is not YAML"),
        ("[]", "is no kubeconfig"),
        ({"clusters": 1}, "$.clusters"),
        ({}, "no current-context"),
        ({**kubeconfig(), "current-context": "x"}, "no context 'x' (there are: a)"),
        ({**kubeconfig(), "clusters": []}, "no cluster 'a' (there are: none)"),
        ({**kubeconfig(), "users": None}, "no user 'a'"),
        (kubeconfig(cluster={"server": ""}), "server is missing"),
        (kubeconfig(cluster={"server": "ftp://a"}), "https:// or http://"),
        (kubeconfig(cluster={"proxy-url": "socks5://a"}), "proxy-url"),
        (kubeconfig(cluster={"proxy-url": "http://[::1"}), "proxy-url is no URL"),
        (kubeconfig(cluster={"server": "https://[::1"}), "server is no URL"),
        (kubeconfig(cluster={"server": "https://a:port"}), "server is no URL"),
        (kubeconfig(cluster={"server": "https://:6443"}), "server names no host"),
        (kubeconfig(cluster={"server": "https://a..b:6443"}), "server names no host"),
        (kubeconfig(cluster={"tls-server-name": ".."}), "tls-server-name is no host name"),
        (kubeconfig(cluster={"certificate-authority": "no"}), "cannot read"),
        (kubeconfig(cluster={"certificate-authority-data": "%"}), "not base64"),
        (
            kubeconfig(
                cluster={"insecure-skip-tls-verify": True, "certificate-authority-data": B64}
            ),
            "exclude one another",
        ),
        (kubeconfig(user={"auth-provider": {"name": "gcp"}}), "auth-provider"),
        (kubeconfig(user={"username": "u", "password": "p"}), "basic authentication"),
        (kubeconfig(user={"exec": {"command": "x"}}), "apiVersion"),
        (kubeconfig(user={"exec": {"apiVersion": "v0", "command": "x"}}), "must be one of"),
        (
            kubeconfig(
                user={"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": ""}}
            ),
            "command is missing",
        ),
    ],
)
def test_refused(tmp_path: Path, content: Any, hint: str) -> None:
    """What cannot work is told with its place."""
    assert hint in refused(tmp_path, content)


def test_no_user(tmp_path: Path) -> None:
    """A context without a user connects as nobody, as kubectl does."""
    content = kubeconfig()
    del content["contexts"][0]["context"]["user"]
    assert load(tmp_path, content).credentials is None


def test_bare_address(tmp_path: Path) -> None:
    """A server without a scheme is reached by TLS."""
    assert "https://a:1" == load(tmp_path, kubeconfig(cluster={"server": "a:1/"})).server


def test_token(tmp_path: Path) -> None:
    """An inline token is used as it is; a file beats it."""
    assert connection.Credentials("t") == static(load(tmp_path, kubeconfig(user={"token": "t"})))
    found = load(tmp_path, kubeconfig(user={"token": "t", "tokenFile": "f"}))
    assert isinstance(found.credentials, credential_files.CredentialFiles)
    assert "" == found.credentials.given.token


def test_exec(tmp_path: Path) -> None:
    """A credential program is remembered, not run."""
    version = "client.authentication.k8s.io/v1"
    command = {"apiVersion": version, "command": "./c", "interactiveMode": "Never", "args": None}
    found = load(tmp_path, kubeconfig(user={"exec": command}))
    assert isinstance(found.credentials, exec_plugin.ExecPlugin)
    expected = exec_plugin.ExecConfig(version, "./c", interactive_mode="Never")
    assert (expected, tmp_path) == (found.credentials.config, found.credentials.beside)
