"""Bad kubeconfig Secrets: what users really put there, and what an attacker would.

Every case is made from a good kubeconfig by one change. It knows the condition and the reason
that tell the user (the table of docs/architecture.md), words that the message must hold, and the
secret strings that must appear nowhere outside of the Secret.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support import certificates
from tests.support import kubeconfigs as kc
from tests.support.kubeconfigs import Kubeconfig

CANARY = "canary-7f3a9c1e"
"""Stands in every secret text that a case makes up."""

INVALID = "KubeconfigInvalid"
AMBIGUOUS = "KubeconfigAmbiguous"
UNSAFE = "KubeconfigUnsafe"
KEY_MISSING = "KubeconfigKeyMissing"

LARGEST_SECRET = 2**20
"""What a Secret may hold: kube-apiserver refuses more."""

REMEDIES = {
    "wrong-ca": "certificate-authority-data",
    "wrong-san": "tls-server-name",
    "expired-certificate": "renew",
    "forbidden": "cluster-admin",
}
"""Words that tell what to do about some of the zoo's servers."""

Change = Callable[[Kubeconfig], object]


@dataclass(frozen=True)
class Case:
    """One Secret, and what must be said about it.

    ``data`` None: there is no such Secret. ``named`` False: the DPUCluster names none.
    """

    name: str
    condition: str
    reason: str
    data: Mapping[str, bytes] | None
    hints: tuple[str, ...] = ()
    canaries: tuple[str, ...] = (CANARY,)
    named: bool = True


@dataclass(frozen=True)
class Ground:
    """What cases are made from: a good kubeconfig, and where the zoo's servers are.

    ``powerless`` is a kubeconfig of a user whom the good server knows and grants nothing.
    """

    good: Kubeconfig
    url: Callable[[str], str]
    zoo_ca: bytes
    powerless: Kubeconfig | None = None
    authority: certificates.Authority = dataclasses.field(
        default_factory=lambda: certificates.Authority("corpus-ca")
    )


def cases(ground: Ground) -> list[Case]:
    """All cases."""
    found = [*_secrets(ground), *_texts(ground), *_shapes(ground), *_unsafe(ground)]
    found += [*_credentials(ground), *_servers(ground), *_names(ground)]
    return [*found, *_answers(ground)]


def good_secret(ground: Ground) -> dict[str, bytes]:
    """The data of a Secret that works."""
    return {"admin.conf": kc.text(ground.good)}


def canaries_of(text: bytes) -> tuple[str, ...]:
    """The secret strings of a kubeconfig: tokens, passwords, the key in both its forms."""
    found = [CANARY]
    for entry in yaml.safe_load(text).get("users") or []:
        user = entry["user"] if isinstance(entry["user"], dict) else {}
        secrets = [user.get(field) for field in ("token", "password", "client-key-data")]
        found += [part for value in secrets if isinstance(value, str) for part in _parts(value)]
    return tuple(found)


def _parts(value: str) -> list[str]:
    """The value, or the parts of a key that nobody would write by chance, encoded and decoded."""
    if len(value) < 100:
        return [value] if value else []
    lines = base64.b64decode(value).decode().splitlines()
    return [value[40:80], *[line for line in lines if len(line) == 64][:2]]


# -- the Secret ---------------------------------------------------------------------------------


def _secrets(ground: Ground) -> Iterator[Case]:
    text = kc.text(ground.good)
    keys = canaries_of(text)
    yield Case(
        "no-secret-named", "Created", "EmptyKubeconfig", None, ("spec.kubeconfig",), named=False
    )
    yield Case("no-such-secret", "Created", "SecretNotFound", None, ("no-such-secret",))
    for name, data in {
        "no-keys": {},
        "wrong-key": {"kubeconfig": text},
        "wrong-case-of-key": {"Admin.conf": text},
        "kubeconfig-under-value": {"value": text, "token": b"x" + CANARY.encode()},
    }.items():
        yield Case(name, "Created", KEY_MISSING, data, ("admin.conf",), keys)


# -- the text -----------------------------------------------------------------------------------


def _texts(ground: Ground) -> Iterator[Case]:
    text = kc.text(ground.good).decode()
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    junk = random.Random(7).randbytes(LARGEST_SECRET - 64)  # noqa: S311 - junk, no cryptography
    texts: dict[str, str | bytes] = {
        "empty": "",
        "only-white-space": " \n\n  \n",
        "only-a-comment": f"# {CANARY}\n",
        "not-yaml": f"users:\n- name: x\n  user:\n    token: {CANARY} : [\n",
        "unclosed-quote": f'users:\n- user:\n    token: "{CANARY}\n',
        "tab-indented": f"users:\n\t- token: {CANARY}\n",
        "a-list": f"- {CANARY}\n",
        "a-word": CANARY,
        "a-certificate": ground.authority.pem,
        "a-private-key": ground.authority.client("x").key_pem,
        "another-kind": json.dumps({"apiVersion": "v1", "kind": "Pod", "spec": {"x": CANARY}}),
        "yaml-bomb": bomb + text,
        "yaml-alias-loop": f"clusters: &a [*a]\nnote: {CANARY}\n",
        "deep-nesting": "[" * 20_000 + CANARY + "]" * 20_000,
        "python-tag": f"!!python/object/apply:os.system ['echo {CANARY}']\n",
        "two-documents": text + "---\n" + text,
        "base64-twice": base64.b64encode(text.encode()),
        "html": f"<html><body>Login {CANARY}</body></html>",
        "binary": b"\x00\xff\xfe\x01" + CANARY.encode(),
        "not-utf-8": text.encode() + b"\n# \xe9\xe8\n",
        "junk-1-mib": junk,
        "cut-in-half": text[: len(text) // 2],
    }
    for name, content in texts.items():
        data = content.encode() if isinstance(content, str) else content
        known = canaries_of(text.encode()) if "users" in str(content[:4000]) else (CANARY,)
        yield Case(name, "Created", INVALID, {"admin.conf": data}, ("admin.conf",), known)


# -- the shape ----------------------------------------------------------------------------------


def _shapes(ground: Ground) -> Iterator[Case]:
    shapes: dict[str, tuple[str, str, Change]] = {
        "no-current-context": (INVALID, "current-context", lambda c: c.pop("current-context")),
        "unknown-context": (
            INVALID,
            "current-context",
            lambda c: c.update({"current-context": "gone"}),
        ),
        "no-contexts": (INVALID, "context", lambda c: c.pop("contexts")),
        "unknown-cluster": (INVALID, "cluster", lambda c: kc.context(c).update(cluster="gone")),
        "unknown-user": (INVALID, "user", lambda c: kc.context(c).update(user="gone")),
        "two-users": (AMBIGUOUS, "user", lambda c: kc.twice(c, "users")),
        "two-clusters": (AMBIGUOUS, "cluster", lambda c: kc.twice(c, "clusters")),
        "no-users": (AMBIGUOUS, "user", lambda c: c.update(users=[])),
        "no-clusters": (AMBIGUOUS, "cluster", lambda c: c.update(clusters=[])),
        "clusters-a-mapping": (INVALID, "clusters", lambda c: c.update(clusters={"name": "x"})),
        "user-a-string": (INVALID, "user", lambda c: c["users"][0].update(user=CANARY)),
        "token-a-mapping": (INVALID, "token", _login({"value": CANARY})),
        "token-a-number": (INVALID, "token", _login(12345678901)),
        "key-a-list": (
            INVALID,
            "client-key-data",
            _updates(kc.user, {"client-key-data": [CANARY]}),
        ),
        "server-a-number": (INVALID, "server", lambda c: kc.cluster(c).update(server=6443)),
    }
    yield from _changed(ground, shapes)


# -- what a Secret must never make us do --------------------------------------------------------


def _unsafe(ground: Ground) -> Iterator[Case]:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "/bin/sh",
        "args": ["-c", f"echo {CANARY}"],
        "env": [{"name": "PASSWORD", "value": CANARY}],
        "interactiveMode": "Never",
    }
    provider = {"name": "oidc", "config": {"id-token": CANARY, "refresh-token": CANARY}}
    users: dict[str, dict[str, Any]] = {
        "exec": {"exec": plugin},
        "auth-provider": {"auth-provider": provider},
        "client-certificate": {"client-certificate": "/etc/kubernetes/pki/admin.crt"},
        "client-key": {"client-key": "/etc/kubernetes/pki/admin.key"},
        "tokenFile": {"tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token"},
        "username": {"username": "admin", "password": CANARY},
        "as": {"as": "system:admin"},
        "as-groups": {"as-groups": ["system:masters"]},
    }
    clusters: dict[str, dict[str, Any]] = {
        "certificate-authority": {"certificate-authority": "/etc/kubernetes/pki/ca.crt"},
        "proxy-url": {"proxy-url": f"http://user:{CANARY}@127.0.0.1:3128"},
        "insecure-skip-tls-verify": {"insecure-skip-tls-verify": True},
    }
    changes: dict[str, tuple[str, str, Change]] = {}
    for field, extra in users.items():
        changes[f"unsafe-{field.lower()}"] = (UNSAFE, field, _updates(kc.user, extra))
    for field, extra in clusters.items():
        changes[f"unsafe-{field}"] = (UNSAFE, field, _updates(kc.cluster, extra))
    yield from _changed(ground, changes)


# -- the credentials ----------------------------------------------------------------------------


def _credentials(ground: Ground) -> Iterator[Case]:
    pair, other = ground.authority.client("admin"), ground.authority.client("other")
    old = ground.authority.client("admin", starts=-400, ends=-35)
    cert, key = "client-certificate-data", "client-key-data"
    encrypted = pair.encrypted_key_pem(CANARY.encode())
    legacy = pair.legacy_encrypted_key_pem(CANARY.encode())
    changes: dict[str, tuple[str, str, Change]] = {
        "no-credentials": (INVALID, "client-certificate-data", lambda c: kc.user(c).clear()),
        "certificate-without-key": (INVALID, key, lambda c: kc.user(c).pop(key)),
        "key-without-certificate": (INVALID, cert, lambda c: kc.user(c).pop(cert)),
        "key-of-another": (INVALID, key, _holds(pair.cert_pem, other.key_pem)),
        "encrypted-key": (INVALID, key, _holds(pair.cert_pem, encrypted)),
        "encrypted-key-legacy": (INVALID, key, _holds(pair.cert_pem, legacy)),
        "expired": ("CredentialsExpired", "expired", _holds(old.cert_pem, old.key_pem)),
        "certificate-and-key-swapped": (INVALID, cert, _holds(pair.key_pem, pair.cert_pem)),
        "certificate-not-pem": (INVALID, cert, _holds(CANARY.encode(), pair.key_pem)),
        "key-not-pem": (INVALID, key, _holds(pair.cert_pem, CANARY.encode())),
        "certificate-broken-pem": (INVALID, cert, _holds(kc.broken(pair.cert_pem), pair.key_pem)),
        "certificate-bad-base64": (INVALID, cert, _updates(kc.user, {cert: "%%%"})),
        "key-bad-base64": (INVALID, key, _updates(kc.user, {key: f"{CANARY}!"})),
        "token-empty": (INVALID, "token", _login("")),
        "token-with-line-break": (INVALID, "token", _login(f"a\r\nX: {CANARY}")),
        "token-not-ascii": (INVALID, "token", _login(f"é{CANARY}")),
    }
    yield from _changed(ground, changes)


# -- the server's address and authority ---------------------------------------------------------


def _servers(ground: Ground) -> Iterator[Case]:
    authority = "certificate-authority-data"
    ca: dict[str, str] = {
        "ca-bad-base64": "%%%",
        "ca-not-pem": base64.b64encode(b"hello").decode(),
        "ca-broken-pem": base64.b64encode(kc.broken(ground.authority.pem)).decode(),
        "ca-empty": "",
    }
    changes: dict[str, tuple[str, str, Change]] = {
        name: (INVALID, authority, _updates(kc.cluster, {authority: value}))
        for name, value in ca.items()
    }
    changes["no-ca"] = (INVALID, authority, lambda c: kc.cluster(c).pop(authority))
    changes["no-server"] = (INVALID, "server", lambda c: kc.cluster(c).pop("server"))
    servers = {
        "server-empty": "",
        "server-http": "http://127.0.0.1:6443",
        "server-no-scheme": "127.0.0.1:6443",
        "server-file": "file:///etc/passwd",
        "server-no-host": "https://:6443",
        "server-bad-port": "https://127.0.0.1:66443",
        "server-userinfo": f"https://admin:{CANARY}@127.0.0.1:6443",
        "server-query": f"https://127.0.0.1:6443/?token={CANARY}",
        "server-white-space": "https://127.0.0.1:6443 /x",
        "server-broken-ipv6": "https://[::1:6443",
        "server-label-empty": "https://a..b:6443",
        "server-label-first-empty": "https://.foo:6443",
        "server-label-long": f"https://{'a' * 64}.example:6443",
        "server-name-long": f"https://{'a.' * 130}example:6443",
        "server-long": f"https://127.0.0.1:6443/{'a' * 2048}",
    }
    for name, address in servers.items():
        changes[name] = (INVALID, "server", _updates(kc.cluster, {"server": address}))
    yield from _changed(ground, changes)


def _names(ground: Ground) -> Iterator[Case]:
    """Names that are none, which libraries meet with errors of their own, and endless ones."""
    tls = {
        "label-empty": "a..b",
        "label-first-empty": ".foo",
        "dot": ".",
        "dots": "..",
        "label-long": "a" * 64 + ".example",
        "long": "a." * 130 + "example",
        "nul": "a\0b",
        "not-ascii": "tenant\u3002\u3002example",
        "with-port": "tenant.example:6443",
        "white-space": "tenant example",
    }
    field = "tls-server-name"
    changes: dict[str, tuple[str, str, Change]] = {
        f"{field}-{name}": (INVALID, field, _updates(kc.cluster, {field: value}))
        for name, value in tls.items()
    }
    endless = CANARY * 20
    for name, (hint, change) in {
        "cluster-name-long": ("clusters[0].name", lambda c: c["clusters"][0].update(name=endless)),
        "user-name-long": ("users[0].name", lambda c: c["users"][0].update(name=endless)),
        "context-name-long": ("contexts[0].name", lambda c: c["contexts"][0].update(name=endless)),
        "namespace-long": ("namespace", lambda c: kc.context(c).update(namespace=endless)),
    }.items():
        changes[name] = (INVALID, hint, change)
    yield from _changed(ground, changes)


# -- what the server behind it answers ----------------------------------------------------------


def _answers(ground: Ground) -> Iterator[Case]:
    for animal, reason in {
        "closed-port": "Unreachable",
        "slam": "Unreachable",
        "slam-after-tls": "Unreachable",
        "black-hole": "Timeout",
        "full-backlog": "Timeout",
        "silent": "Timeout",
        "drip": "Timeout",
        "plain-http": "NotKubernetes",
        "tls-junk": "NotKubernetes",
        "not-http": "NotKubernetes",
        "html": "NotKubernetes",
        "redirect": "NotKubernetes",
        "empty-404": "NotKubernetes",
        "json-but-not-kubernetes": "NotKubernetes",
        "endless": "NotKubernetes",
        "junk": "NotKubernetes",
        "unauthorized": "Unauthorized",
        "forbidden": "Forbidden",
        "not-ready": "ApiServerNotReady",
        "wrong-ca": "CertificateInvalid",
        "wrong-san": "CertificateInvalid",
        "expired-certificate": "CertificateInvalid",
    }.items():
        pair = ground.authority.client("admin")
        config = kc.build(
            ground.url(animal), ground.zoo_ca, cert_pem=pair.cert_pem, key_pem=pair.key_pem
        )
        yield _ready(f"at-{animal}", reason, config, REMEDIES.get(animal, "127.0.0.1"))
    yield from _refused(ground)


def _refused(ground: Ground) -> Iterator[Case]:
    """Credentials that the good server does not accept."""
    stranger = ground.authority.client("admin", "system:masters")
    early = ground.authority.client("admin", "system:masters", starts=2, ends=30)
    changes: dict[str, tuple[str, str, Change]] = {
        "unknown-token": ("Unauthorized", "token", _login(f"x{CANARY}")),
        "client-of-another-ca": ("Unauthorized", "", _holds(stranger.cert_pem, stranger.key_pem)),
        "not-yet-valid": ("CredentialsNotYetValid", "", _holds(early.cert_pem, early.key_pem)),
        "wrong-tls-server-name": (
            "CertificateInvalid",
            "other.example",
            lambda c: kc.cluster(c).update({"tls-server-name": "other.example"}),
        ),
        "trusts-another-ca": (
            "CertificateInvalid",
            "certificate-authority-data",
            lambda c: kc.cluster(c).update(
                {"certificate-authority-data": base64.b64encode(ground.authority.pem).decode()}
            ),
        ),
    }
    if ground.powerless is not None:
        yield _ready("no-rights", "Forbidden", ground.powerless, "kube-system")
    for name, (reason, hint, change) in changes.items():
        config = copy.deepcopy(ground.good)
        change(config)
        yield _ready(name, reason, config, hint)


# -- small things -------------------------------------------------------------------------------


def _ready(name: str, reason: str, config: Kubeconfig, hint: str) -> Case:
    text = kc.text(config)
    hints = (hint,) if hint else ()
    return Case(name, "Ready", reason, {"admin.conf": text}, hints, canaries_of(text))


def _changed(ground: Ground, changes: Mapping[str, tuple[str, str, Change]]) -> Iterator[Case]:
    """One case for each change of the good kubeconfig: reason, word of the message, change."""
    for name, (reason, hint, change) in changes.items():
        config = copy.deepcopy(ground.good)
        change(config)
        text = kc.text(config)
        known = canaries_of(kc.text(ground.good)) + canaries_of(text)
        yield Case(name, "Created", reason, {"admin.conf": text}, ("admin.conf", hint), known)


def _updates(part: Callable[[Kubeconfig], dict[str, Any]], fields: Mapping[str, Any]) -> Change:
    """The change that sets ``fields`` of that part."""
    return lambda config: part(config).update(fields)


def _holds(pair_cert: bytes, pair_key: bytes) -> Change:
    """The change after which the user holds this certificate and key."""
    return lambda config: kc.hold(config, pair_cert, pair_key)


def _login(token: Any) -> Change:
    """The change after which the user has nothing but this token."""
    return lambda config: kc.login(config, token=token)
