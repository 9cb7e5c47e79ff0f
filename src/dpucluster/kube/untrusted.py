"""Kubeconfigs out of Secrets: inline data or nothing.

Whoever may write a Secret is not thereby allowed to run programs in the controller, to have it
read files, or to send its credentials somewhere. So this module can do none of that: it takes
bytes and returns values, and refuses (``KubeconfigUnsafe``) what asks for more. It shares no code
with ``config``, which reads the user's own kubeconfig.

Messages name the place, the field and the remedy; they never quote a value.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from dpucluster import errors
from dpucluster.kube import connection as connections
from dpucluster.kube import strict_yaml, tls

INVALID: Final = "KubeconfigInvalid"
AMBIGUOUS: Final = "KubeconfigAmbiguous"
UNSAFE: Final = "KubeconfigUnsafe"

_FILE: Final = "names a file, which a kubeconfig in a Secret must not: put the content in {}"
_NOBODY_ELSE: Final = "acts as somebody else, which a kubeconfig in a Secret must not: remove it"
_BASIC: Final = (
    "is basic authentication, which API servers no longer have: use a client certificate or a token"
)
_UNSAFE_CLUSTER: Final[Mapping[str, str]] = {
    "certificate-authority": _FILE.format("certificate-authority-data"),
    "proxy-url": "sends the connection elsewhere, which a kubeconfig in a Secret must not: "
    "remove it",
    "insecure-skip-tls-verify": "would send the credentials to anybody: "
    "remove it and put the authority in certificate-authority-data",
}
_UNSAFE_USER: Final[Mapping[str, str]] = {
    "exec": "runs a program, which a kubeconfig in a Secret must not: "
    "use a client certificate or a token",
    "auth-provider": "runs code of a plug-in, which a kubeconfig in a Secret must not: "
    "use a client certificate or a token",
    "client-certificate": _FILE.format("client-certificate-data"),
    "client-key": _FILE.format("client-key-data"),
    "tokenFile": _FILE.format("token"),
    "username": _BASIC,
    "password": _BASIC,
    "as": _NOBODY_ELSE,
    "as-uid": _NOBODY_ELSE,
    "as-groups": _NOBODY_ELSE,
    "as-user-extra": _NOBODY_ELSE,
}

_KEY: Final = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----[^-]+-----END")
_ENCRYPTED_KEY: Final = re.compile(
    rb"-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: *4,ENCRYPTED"
)
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_DNS_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?"  # _: Docker and Windows use it
)
_IP_ADDRESS: Final = re.compile(r"[0-9A-Fa-f.:]+(%[A-Za-z0-9._-]+)?")

MAX_NAME: Final = 253
"""Characters of a name: what Kubernetes gives an object; names go into status and Events."""
MAX_SERVER: Final = 2048
"""Characters of the server's address, for the same reason; browsers draw the line there, too."""


@dataclass(frozen=True)
class UntrustedKubeconfig:
    """What a kubeconfig with one cluster and one user says, all of it inline."""

    server: str
    tls_server_name: str
    ca_data: bytes = field(repr=False)
    client_cert: bytes | None = field(repr=False)
    client_key: bytes | None = field(repr=False)
    token: str | None = field(repr=False)
    cluster_name: str
    user_name: str
    context: str
    namespace: str

    def connection(self) -> connections.Connection:
        """How to connect: verified TLS, no proxy, nobody else's credentials."""
        credentials = connections.Credentials(token=self.token or "")
        return connections.Connection(
            server=self.server,
            ca_data=self.ca_data,
            client_cert=self.client_cert,
            client_key=self.client_key,
            credentials=connections.StaticCredentials(credentials) if self.token else None,
            tls_server_name=self.tls_server_name,
            namespace=self.namespace,
            context=self.context,
            untrusted=True,
        )


def parse(data: bytes, *, where: str) -> UntrustedKubeconfig:
    """The kubeconfig in ``data``; ``where`` names its place in messages.

    Raises:
        KubeconfigError: ``KubeconfigUnsafe`` when any entry, used or not, asks for more than
            inline data; ``KubeconfigAmbiguous`` when there is not exactly one cluster and one
            user; ``KubeconfigInvalid`` for everything else.
    """
    if not data.strip():
        raise errors.KubeconfigError(INVALID, f"{where}: is empty: put a kubeconfig there")
    try:
        document = strict_yaml.load(data)
    except strict_yaml.NotPlain as error:
        raise errors.KubeconfigError(INVALID, f"{where}: {error}: put a kubeconfig there") from None
    if not isinstance(document, dict):
        raise errors.KubeconfigError(INVALID, f"{where}: is no kubeconfig: put one there")
    return _parse(_Fields(where, document))


def _parse(top: _Fields) -> UntrustedKubeconfig:
    if top.text("kind") not in ("", "Config"):
        top.refuse("kind", "is not Config: put a kubeconfig there")
    clusters = top.entries("clusters", "cluster")
    users = top.entries("users", "user")
    contexts = top.entries("contexts", "context")
    if not (clusters or users or contexts):
        top.refuse("clusters", "is missing, this is no kubeconfig: put one there")
    for entry in clusters:
        _refuse_unsafe(entry.fields, _UNSAFE_CLUSTER)
    for entry in users:
        _refuse_unsafe(entry.fields, _UNSAFE_USER)
    cluster = _only(top, "clusters", clusters)
    user = _only(top, "users", users)
    context = _current(top, contexts, cluster.name, user.name)
    cert, key = _client_certificate(user.fields)
    token = _token(user.fields)
    if cert is None and token is None:
        user.fields.refuse(
            "client-certificate-data", "is missing, and so is token: put in one of them"
        )
    return UntrustedKubeconfig(
        server=_server(cluster.fields),
        tls_server_name=_tls_server_name(cluster.fields),
        ca_data=_authority(cluster.fields),
        client_cert=cert,
        client_key=key,
        token=token,
        cluster_name=cluster.name,
        user_name=user.name,
        context=context.name,
        namespace=context.fields.bounded("namespace") or "default",
    )


@dataclass(frozen=True)
class _Entry:
    """A named entry of one of the three lists."""

    name: str
    fields: _Fields


@dataclass(frozen=True)
class _Fields:
    """A mapping that knows where it stands. Absent, null and empty are the same."""

    where: str
    values: dict[str, strict_yaml.Value] = field(repr=False)
    path: str = ""

    def refuse(self, name: str, text: str, reason: str = INVALID) -> NoReturn:
        place = f"{self.path}.{name}" if self.path else name
        raise errors.KubeconfigError(reason, f"{self.where}: {place} {text}")

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.refuse(name, "must be text (put it in quotes)")
        return value

    def bounded(self, name: str, most: int = MAX_NAME) -> str:
        """Text that will be shown to people."""
        value = self.text(name)
        if len(value) > most:
            self.refuse(name, f"is longer than {most} characters: give a shorter one")
        return value

    def below(self, name: str, path: str) -> _Fields:
        value = self.values.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            self.refuse(name, "must be a mapping")
        return _Fields(self.where, value, path)

    def entries(self, plural: str, singular: str) -> list[_Entry]:
        listed = self.values.get(plural)
        if listed is None:
            return []
        if not isinstance(listed, list):
            self.refuse(plural, "must be a list")
        found = []
        for index, value in enumerate(listed):
            path = f"{plural}[{index}]"
            if not isinstance(value, dict):
                self.refuse(path, "must be a mapping")
            entry = _Fields(self.where, value, path)
            below = entry.below(singular, f"{path}.{singular}")
            found.append(_Entry(entry.bounded("name"), below))
        return found

    def data(self, name: str) -> bytes:
        """The decoded base64 of a field; empty when absent."""
        packed = "".join(self.text(name).split())
        try:
            return base64.b64decode(packed, validate=True)
        except (binascii.Error, ValueError):
            self.refuse(name, "is not base64: encode the PEM text with `base64 -w0`")


def _refuse_unsafe(fields: _Fields, unsafe: Mapping[str, str]) -> None:
    for name, text in unsafe.items():
        value = fields.values.get(name)
        if name == "insecure-skip-tls-verify" and not isinstance(value, bool | None):
            fields.refuse(name, "must be true or false, and only false is accepted")
        # An empty mapping under exec is still the wish to run something.
        if isinstance(value, dict | strict_yaml.Odd) or value:
            fields.refuse(name, text, UNSAFE)


def _only(top: _Fields, plural: str, entries: list[_Entry]) -> _Entry:
    if len(entries) != 1:
        told = f"has {len(entries)} entries: keep exactly one, that of the tenant's administrator"
        top.refuse(plural, told, AMBIGUOUS)
    return entries[0]


def _current(top: _Fields, contexts: list[_Entry], cluster: str, user: str) -> _Entry:
    wanted = top.text("current-context")
    if not wanted:
        top.refuse("current-context", "is missing: name one of the contexts")
    named = [entry for entry in contexts if entry.name == wanted]
    if len(named) != 1:
        top.refuse("current-context", "must name exactly one of the contexts: put its name there")
    if named[0].fields.text("cluster") != cluster:
        named[0].fields.refuse(
            "cluster", "is not the name of the only cluster: put that name there"
        )
    if named[0].fields.text("user") != user:
        named[0].fields.refuse("user", "is not the name of the only user: put that name there")
    return named[0]


def _server(cluster: _Fields) -> str:
    server = cluster.bounded("server", MAX_SERVER)
    if not server:
        cluster.refuse("server", "is missing: give the https:// address of the API server")
    try:
        url = urllib.parse.urlsplit(server)
        port = url.port
    except ValueError:
        cluster.refuse("server", "is no URL: give the https:// address of the API server")
    if url.scheme != "https":
        cluster.refuse("server", "does not begin with https://: credentials need TLS")
    if "@" in url.netloc:
        cluster.refuse("server", "holds a user name: use a client certificate or a token")
    if url.query or url.fragment or "?" in server or "#" in server:
        cluster.refuse("server", "holds a query: give the bare address")
    if port == 0 or not _is_host(url.hostname or "") or not _TOKEN.fullmatch(server):
        cluster.refuse("server", "is no URL: give the https:// address of the API server")
    return server.rstrip("/")


def _tls_server_name(cluster: _Fields) -> str:
    name = cluster.bounded("tls-server-name")
    if name and not _is_host(name):
        cluster.refuse(
            "tls-server-name", "is no host name: give a name of the API server's certificate"
        )
    return name


def _is_host(text: str) -> bool:
    """Whether TLS can check a certificate against it.

    The libraries below fail in ways of their own on names that are none (``.foo``, ``a..b``), and
    take one of dots only as the wish to check nothing.
    """
    if _DNS_NAME.fullmatch(text):
        return True
    if not _IP_ADDRESS.fullmatch(text):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _authority(cluster: _Fields) -> bytes:
    name = "certificate-authority-data"
    data = cluster.data(name)
    if not data.strip():
        cluster.refuse(name, "is missing: put in the authority of the API server's certificate")
    try:
        tls.load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), data)
    except errors.TlsFailed:
        cluster.refuse(name, "holds no readable PEM certificate: encode ca.crt in base64")
    return data


def _client_certificate(user: _Fields) -> tuple[bytes | None, bytes | None]:
    cert, key = user.data("client-certificate-data"), user.data("client-key-data")
    if not cert and not key:
        return None, None
    if not cert:
        user.refuse("client-certificate-data", "is missing, client-key-data is there: put in both")
    if not key:
        user.refuse("client-key-data", "is missing, client-certificate-data is there: put in both")
    if not tls.certificates(cert):
        user.refuse("client-certificate-data", "is no PEM certificate: encode the .crt in base64")
    if _ENCRYPTED_KEY.search(key):
        user.refuse("client-key-data", "is encrypted with a pass phrase: store the key without one")
    if not _KEY.search(key):
        user.refuse("client-key-data", "is no PEM private key: encode the .key in base64")
    return cert, key


def _token(user: _Fields) -> str | None:
    token = user.text("token")
    if token and not _TOKEN.fullmatch(token):
        user.refuse("token", "holds spaces or characters that no token has: store the bare token")
    return token or None
