"""Kubeconfigs out of Secrets: what is accepted, and what is refused with which reason."""

from __future__ import annotations

import base64
import contextlib
import copy
import functools
import sys
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dpucluster import errors
from dpucluster.kube import connection as connections
from dpucluster.kube import strict_yaml, untrusted
from tests.support import certificates
from tests.support import kubeconfigs as kc

WHERE = "Secret tenants/a, key admin.conf"
CANARY = "canary-5c1e77d0"
SERVER = "https://tenant.example:6443"
FORBIDDEN = frozenset(
    {"open", "os.exec", "os.posix_spawn", "os.system", "subprocess.Popen", "os.fork"}
    | {"socket.connect", "socket.getaddrinfo", "socket.bind", "os.listdir", "os.remove"}
)


@functools.cache
def _pairs() -> tuple[certificates.Authority, certificates.Pair]:
    authority = certificates.Authority()
    return authority, authority.client("admin", "system:masters")


def valid(**user: str) -> kc.Kubeconfig:
    """A kubeconfig that is accepted, with a client certificate unless ``user`` has its own."""
    authority, pair = _pairs()
    config = kc.build(SERVER, authority.pem, cert_pem=pair.cert_pem, key_pem=pair.key_pem)
    if user:
        kc.login(config, **user)
    return config


def parse(config: kc.Kubeconfig | bytes) -> untrusted.UntrustedKubeconfig:
    data = config if isinstance(config, bytes) else kc.text(config)
    return untrusted.parse(data, where=WHERE)


@contextlib.contextmanager
def pure() -> Iterator[None]:
    """Fails when what runs inside reaches for anything outside."""
    reached: list[str] = []
    watching.append(reached)
    try:
        yield
    finally:
        watching.pop()
    assert reached == []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if watching and event in FORBIDDEN:
        watching[-1].append(f"{event}: {args[:1]}")


watching: list[list[str]] = []
"""The blocks of ``pure`` that are open; an audit hook can be added but never removed."""


@pytest.fixture(scope="module", autouse=True)
def audited() -> None:
    parse(valid())  # whatever is imported on first use is imported now
    sys.addaudithook(_audit)


def test_audit_notices(tmp_path: Any) -> None:
    """The watchdog of this module barks: opening a file inside ``pure`` fails."""
    with pytest.raises(AssertionError), pure():
        (tmp_path / "x").write_text("")


def test_everything_arrives() -> None:
    """All that a good kubeconfig says is in the value, and in the connection made of it."""
    authority, pair = _pairs()
    config = valid()
    kc.user(config)["token"] = CANARY
    kc.cluster(config)["tls-server-name"] = "inner.example"
    kc.cluster(config)["server"] += "/k8s/"
    kc.context(config)["namespace"] = "kube-public"
    expected = untrusted.UntrustedKubeconfig(
        server=SERVER + "/k8s",
        tls_server_name="inner.example",
        ca_data=authority.pem,
        client_cert=pair.cert_pem,
        client_key=pair.key_pem,
        token=CANARY,
        cluster_name="tenant",
        user_name="tenant-admin",
        context="tenant-admin@tenant",
        namespace="kube-public",
    )
    assert expected == parse(config)
    assert (
        connections.Connection(
            server=SERVER + "/k8s",
            ca_data=authority.pem,
            client_cert=pair.cert_pem,
            client_key=pair.key_pem,
            credentials=connections.StaticCredentials(connections.Credentials(token=CANARY)),
            tls_server_name="inner.example",
            namespace="kube-public",
            context="tenant-admin@tenant",
            untrusted=True,
        )
        == expected.connection()
    )


def test_repr_keeps_secrets() -> None:
    """Neither the value nor its connection shows a secret when printed."""
    config = valid()
    kc.user(config)["token"] = CANARY
    shown = repr(parse(config)) + repr(parse(config).connection())
    assert CANARY not in shown
    assert "PRIVATE KEY" not in shown


ACCEPTED: dict[str, Callable[[kc.Kubeconfig], object]] = {
    "null-fields": lambda c: kc.user(c).update({"exec": None, "auth-provider": None}),
    "empty-paths": lambda c: kc.user(c).update({"tokenFile": "", "client-key": ""}),
    "insecure-false": lambda c: kc.cluster(c).update({"insecure-skip-tls-verify": False}),
    "preferences-and-extensions": lambda c: c.update(preferences={}, extensions=[{"name": "x"}]),
    "second-context": lambda c: kc.twice(c, "contexts"),
    "no-kind": lambda c: c.pop("kind"),
    "wrapped-base64": lambda c: kc.cluster(c).update(
        {"certificate-authority-data": _wrapped(kc.cluster(c)["certificate-authority-data"])}
    ),
}


def _wrapped(text: str) -> str:
    return "\n".join(text[i : i + 64] for i in range(0, len(text), 64)) + "\n"


@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(change: Callable[[kc.Kubeconfig], object]) -> None:
    """Harmless variations are no reason to refuse."""
    config = valid()
    change(config)
    assert SERVER == parse(config).server


def test_json_is_accepted() -> None:
    """A kubeconfig may be written as JSON, with or without a byte order mark."""
    text = yaml.safe_dump(valid(), default_flow_style=True, width=10**6).encode()
    assert SERVER == parse(b"\xef\xbb\xbf" + text).server


UNSAFE_USER = {
    "exec": {"command": "/bin/sh", "env": [{"name": "A", "value": CANARY}]},
    "auth-provider": {"name": "oidc", "config": {"client-secret": CANARY}},
    "client-certificate": f"/{CANARY}",
    "client-key": f"/{CANARY}",
    "tokenFile": f"/{CANARY}",
    "username": CANARY,
    "password": CANARY,
    "as": CANARY,
    "as-uid": CANARY,
    "as-groups": [CANARY],
    "as-user-extra": {"scopes": [CANARY]},
}
UNSAFE_CLUSTER = {
    "certificate-authority": f"/{CANARY}",
    "proxy-url": f"http://user:{CANARY}@proxy.example",
    "insecure-skip-tls-verify": True,
}


def refusal(config: kc.Kubeconfig | bytes) -> errors.KubeconfigError:
    with pytest.raises(errors.KubeconfigError) as caught, pure():
        parse(config)
    assert str(caught.value).startswith(WHERE + ": ")
    assert CANARY not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("field", UNSAFE_USER)
def test_unsafe_user(field: str) -> None:
    """Whatever makes the reader run, read or impersonate is refused, good credentials or not."""
    config = valid()
    kc.user(config)[field] = UNSAFE_USER[field]
    error = refusal(config)
    assert untrusted.UNSAFE == error.reason
    assert f"users[0].user.{field} " in str(error)


@pytest.mark.parametrize("field", UNSAFE_CLUSTER)
def test_unsafe_cluster(field: str) -> None:
    """Whatever sends credentials elsewhere is refused."""
    config = valid()
    kc.cluster(config)[field] = UNSAFE_CLUSTER[field]
    error = refusal(config)
    assert untrusted.UNSAFE == error.reason
    assert f"clusters[0].cluster.{field} " in str(error)


def test_unsafe_comes_first() -> None:
    """A second user who is unsafe is told as unsafe, used or not."""
    config = valid()
    kc.twice(config, "users")
    config["users"][1]["user"] = {"exec": {}}
    assert untrusted.UNSAFE == refusal(config).reason


def _encrypted(*, legacy: bool) -> str:
    pair = _pairs()[1]
    make = pair.legacy_encrypted_key_pem if legacy else pair.encrypted_key_pem
    return base64.b64encode(make(CANARY.encode())).decode()


def _set(part: Callable[[kc.Kubeconfig], dict[str, Any]], **fields: Any) -> Callable[..., object]:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return lambda config: part(config).update(named)


def _drop(part: Callable[[kc.Kubeconfig], dict[str, Any]], field: str) -> Callable[..., object]:
    return lambda config: part(config).pop(field)


def _top(config: kc.Kubeconfig) -> kc.Kubeconfig:
    return config


B64_CANARY = base64.b64encode(CANARY.encode()).decode()
INVALID: dict[str, tuple[Callable[[kc.Kubeconfig], object], str]] = {
    "other-kind": (_set(_top, kind="Secret"), "kind"),
    "clusters-a-mapping": (_set(_top, clusters={}), "clusters must be a list"),
    "user-a-list": (lambda c: c["users"][0].update(user=[]), "users[0].user must be a mapping"),
    "entry-a-text": (lambda c: c.update(users=["x"]), "users[0] must be a mapping"),
    "token-a-number": (_set(kc.user, token=1234), "token must be text"),
    "insecure-a-text": (_set(kc.cluster, insecure_skip_tls_verify="true"), "true or false"),
    "no-current-context": (_drop(_top, "current-context"), "current-context is missing"),
    "unknown-context": (_set(_top, current_context="no"), "current-context must name"),
    "two-same-contexts": (
        lambda c: c["contexts"].append(copy.deepcopy(c["contexts"][0])),
        "exactly one",
    ),
    "unknown-cluster": (_set(kc.context, cluster="no"), "context.cluster"),
    "unknown-user": (_set(kc.context, user="no"), "context.user"),
    "no-server": (_drop(kc.cluster, "server"), "server is missing"),
    "http": (_set(kc.cluster, server="http://a:1"), "https://"),
    "no-scheme": (_set(kc.cluster, server="a:6443"), "https://"),
    "no-host": (_set(kc.cluster, server="https://:6443"), "no URL"),
    "bad-port": (_set(kc.cluster, server="https://a:99999"), "no URL"),
    "port-0": (_set(kc.cluster, server="https://a:0"), "no URL"),
    "bad-ip": (_set(kc.cluster, server="https://[::1"), "no URL"),
    "newline": (_set(kc.cluster, server="https://a\r\nX: y"), "no URL"),
    "space": (_set(kc.cluster, server="https://a/ b"), "no URL"),
    "userinfo": (_set(kc.cluster, server=f"https://u:{CANARY}@a"), "user name"),
    "query": (_set(kc.cluster, server=f"https://a/?token={CANARY}"), "query"),
    "fragment": (_set(kc.cluster, server="https://a/#x"), "query"),
    "bad-tls-name": (_set(kc.cluster, tls_server_name="a b"), "tls-server-name"),
    "long-server": (_set(kc.cluster, server=SERVER + "/" + "a" * 2048), "longer than 2048"),
    "long-namespace": (_set(kc.context, namespace="a" * 254), "longer than 253"),
    "long-context": (
        lambda c: c["contexts"][0].update(name="a" * 254),
        "contexts[0].name is longer",
    ),
    "long-cluster": (
        lambda c: c["clusters"][0].update(name="a" * 254),
        "clusters[0].name is longer",
    ),
    "long-user": (lambda c: c["users"][0].update(name="a" * 254), "users[0].name is longer"),
    "no-ca": (_drop(kc.cluster, "certificate-authority-data"), "is missing"),
    "empty-ca": (_set(kc.cluster, certificate_authority_data=""), "is missing"),
    "ca-no-base64": (_set(kc.cluster, certificate_authority_data=f"%{CANARY}"), "not base64"),
    "ca-no-pem": (_set(kc.cluster, certificate_authority_data=B64_CANARY), "no readable PEM"),
    "ca-broken-pem": (
        _set(
            kc.cluster,
            certificate_authority_data=base64.b64encode(
                kc.broken(b"-----BEGIN CERTIFICATE-----\n-\n-----END CERTIFICATE-----")
            ).decode(),
        ),
        "no readable PEM",
    ),
    "no-credentials": (kc.login, "put in one of them"),
    "empty-token": (lambda c: kc.login(c, token=""), "put in one of them"),
    "token-of-two-lines": (lambda c: kc.login(c, token=f"{CANARY}\n"), "token holds"),
    "token-header": (lambda c: kc.login(c, token=f"a\r\nX: {CANARY}"), "token holds"),
    "token-unicode": (lambda c: kc.login(c, token=f"\u00e9{CANARY}"), "token holds"),
    "no-key": (_drop(kc.user, "client-key-data"), "client-key-data is missing"),
    "no-cert": (_drop(kc.user, "client-certificate-data"), "client-certificate-data is missing"),
    "cert-no-base64": (_set(kc.user, client_certificate_data=f"\u00e9{CANARY}"), "not base64"),
    "cert-no-pem": (_set(kc.user, client_certificate_data=B64_CANARY), "no PEM certificate"),
    "key-no-pem": (_set(kc.user, client_key_data=B64_CANARY), "no PEM private key"),
    "key-encrypted": (
        lambda c: kc.user(c).update({"client-key-data": _encrypted(legacy=False)}),
        "pass phrase",
    ),
    "key-encrypted-legacy": (
        lambda c: kc.user(c).update({"client-key-data": _encrypted(legacy=True)}),
        "pass phrase",
    ),
}


@pytest.mark.parametrize(("change", "hint"), INVALID.values(), ids=INVALID)
def test_invalid(change: Callable[[kc.Kubeconfig], object], hint: str) -> None:
    """What cannot work is told with the field and what to do."""
    config = valid()
    change(config)
    error = refusal(config)
    assert untrusted.INVALID == error.reason
    assert hint in str(error)


NO_HOSTS = [
    *(".foo", "a..b", "a.b..", ".", "..", "a" * 64, "b." + "a" * 64, "a." * 127, "\u00fc.example"),
    *("1:2", "fe80::1%", "fe80::1%\0", "::g", "1::2::3"),
    *("a%b", "a\0b", "a b", "\u3002", "*.a", "a\n"),
]
HOSTS = [
    *("a", "A-1.b_c", "_a", "tenant.example.", "a" * 63, ".".join(["a" * 63, "b" * 63, "c" * 63])),
    *("a" * 63 + "." + "b." * 94 + "c", "127.0.0.1", "::1", "2001:DB8::1", "fe80::1%eth0", "xn--a"),
]


def _address(host: str) -> str:
    return f"https://[{host}]:6443" if ":" in host else f"https://{host}:6443"


@pytest.mark.parametrize("host", NO_HOSTS)
def test_no_hosts(host: str) -> None:
    """What TLS cannot check a certificate against is refused, as address and as name."""
    for field, value in {"server": _address(host), "tls-server-name": host}.items():
        config = valid()
        kc.cluster(config)[field] = value
        error = refusal(config)
        assert untrusted.INVALID == error.reason
        assert f"clusters[0].cluster.{field} " in str(error)


@pytest.mark.parametrize("host", HOSTS)
def test_hosts(host: str) -> None:
    """Every DNS name, with underscores too, and every address is taken."""
    config = valid()
    kc.cluster(config).update({"server": _address(host), "tls-server-name": host})
    found = parse(config)
    assert (_address(host), host) == (found.server, found.tls_server_name)


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a]\nclusters: [*b,*b,*b,*b]\n"
BYTES = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\n", "is empty"),
    "text": (b"hello", "no kubeconfig"),
    "list": (b"[]", "no kubeconfig"),
    "other-mapping": (b"a: b", "no kubeconfig"),
    "not-yaml": (b"a: [", "(line "),
    "binary": (b"\x00\x01\x02", "YAML"),
    "not-utf8": (b"a: \xff\xfe", "UTF-8"),
    "bomb": (BOMB, "aliases"),
    "anchor": (b"a: &x 1", "aliases"),
    "tag": (b"a: !!python/object/apply:os.system [id]", "tags"),
    "merge": (b"<<: {a: b}", "merge"),
    "two-documents": (b"a: b\n---\nc: d\n", "more than one"),
    "twice": (b"kind: Config\nkind: Config", "twice"),
    "number-as-key": (b"1: a", "no text"),
    "deep": (b"[" * 200_000, "deep"),
    "deep-mapping": (b"{a: " * 50_000, "deep"),
    "many": (b"[" + b"a," * 100_000, "more YAML values"),
    "large": (b"a" * (2**20 + 1), "1 MiB"),
    "one-line-of-junk": (b"9" * 2**20, "no kubeconfig"),
}


@pytest.mark.parametrize(("data", "hint"), BYTES.values(), ids=BYTES)
def test_bytes(data: bytes, hint: str) -> None:
    """What is no kubeconfig at all is told so, also by the megabyte."""
    error = refusal(data)
    assert untrusted.INVALID == error.reason
    assert hint in str(error)


@pytest.mark.parametrize("field", ["clusters", "users"])
@pytest.mark.parametrize("count", [0, 2])
def test_ambiguous(field: str, count: int) -> None:
    """Not exactly one cluster and one user: nobody knows which is meant."""
    config = valid()
    config[field] = [copy.deepcopy(config[field][0]) for _ in range(count)]
    assert untrusted.AMBIGUOUS == refusal(config).reason


# Properties

FIELDS = st.sampled_from(
    [
        *UNSAFE_USER,
        *UNSAFE_CLUSTER,
        *("server", "token", "name", "user", "cluster", "clusters", "<<", CANARY),
        *("tls-server-name", "namespace"),
        *("client-key-data", "client-certificate-data", "certificate-authority-data"),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(NO_HOSTS + HOSTS + [f"https://{name}" for name in NO_HOSTS + HOSTS]),
    st.sampled_from(["a" * 254, f"https://a/{'a' * 2048}"]),
    st.sampled_from([CANARY, B64_CANARY, f"https://{CANARY}@x", f"/{CANARY}", f"\n{CANARY}"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=6,
)


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in items:
        yield from _paths(inner, (*at, name))


def _changed(config: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(config)
    functools.reduce(lambda part, name: part[name], path[:-1], changed)[path[-1]] = value
    return changed


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid kubeconfig with up to three values replaced, or fields added."""
    config: Any = valid(token=CANARY) if draw(st.booleans()) else valid()
    for _ in range(draw(st.integers(1, 3))):
        paths = list(_paths(config))
        path = draw(st.sampled_from(paths))
        target = functools.reduce(lambda part, name: part[name], path, config)
        if isinstance(target, dict) and draw(st.booleans()):
            path = (*path, draw(FIELDS))
        config = _changed(config, path, draw(VALUES))
    return config


def _attempt(data: bytes) -> untrusted.UntrustedKubeconfig | errors.KubeconfigError:
    try:
        return parse(data)
    except errors.KubeconfigError as error:
        return error


def check(data: bytes) -> None:
    """The promise: a value that reaches nowhere, or a KubeconfigError that tells nothing."""
    with pure():
        found = _attempt(data)
    if isinstance(found, errors.KubeconfigError):
        assert found.reason in {untrusted.INVALID, untrusted.AMBIGUOUS, untrusted.UNSAFE}
        assert CANARY not in str(found)
        assert B64_CANARY not in str(found)
        assert str(found).startswith(WHERE)
        return
    made = found.connection()
    assert made.server.startswith("https://")
    assert "@" not in made.server
    assert made.ca_data
    shown = (found.cluster_name, found.user_name, found.context, found.namespace)
    assert max(map(len, shown)) <= untrusted.MAX_NAME
    assert len(made.server) <= untrusted.MAX_SERVER
    for host in (urllib.parse.urlsplit(made.server).hostname, made.tls_server_name or "absent"):
        assert host
        assert host.rstrip("."), "of dots only: the libraries would check nothing"
        assert host.encode("idna")
    assert (False, "", connections.Impersonation()) == (
        made.insecure,
        made.proxy_url,
        made.impersonate,
    )
    assert made.credentials is None or isinstance(made.credentials, connections.StaticCredentials)


@given(st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    """No bytes make it fail in any other way, or reach outside."""
    check(data)


@given(st.text(alphabet="ab:[]{}&*!|>-'\"#%@,?\n \t~<0.", max_size=200))
def test_anything_like_yaml(text: str) -> None:
    """Nothing that looks like YAML does either."""
    check(text.encode())


@given(mutated())
def test_any_mutation(config: Any) -> None:
    """No change of a valid kubeconfig does either."""
    check(yaml.safe_dump(config, allow_unicode=True).encode("utf-8", "surrogatepass"))


NAMES = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="a-_.:%[]@/?#0\0\n\u3002\u00fc", max_size=80),
    st.lists(st.integers(0, 70), max_size=8).map(lambda sizes: ".".join("a" * n for n in sizes)),
)


@given(NAMES, st.sampled_from(["server", "tls-server-name"]))
def test_any_host(name: str, field: str) -> None:
    """No name of a server does either, and none gets past that a library would choke on."""
    config = valid()
    kc.cluster(config)[field] = _address(name) if field == "server" else name
    check(yaml.safe_dump(config, allow_unicode=True).encode("utf-8", "surrogatepass"))


@given(st.data())
def test_any_flipped_byte(data: st.DataObject) -> None:
    """No damage to the text of a valid kubeconfig does either."""
    text = bytearray(kc.text(valid(token=CANARY)))
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(text))


@given(VALUES)
def test_plain_yaml_is_understood(value: Any) -> None:
    """The strict reader agrees with PyYAML on everything it accepts (numbers apart)."""
    text = yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")
    try:
        found = strict_yaml.load(text)
    except strict_yaml.NotPlain:
        return
    assert _plain(yaml.safe_load(text)) == _plain(found)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    is_number = isinstance(value, int | float | strict_yaml.Odd) and not isinstance(value, bool)
    return "number" if is_number else value
