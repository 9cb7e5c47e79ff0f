"""Asks the API server of a tenant: is it there, may we, which cluster is it.

The peer is not trusted: every body is bounded, everything together is bounded in time, redirects
are answers like others.
"""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec

from dpucluster import errors
from dpucluster.kube import client as kube_client
from dpucluster.kube import kinds
from dpucluster.runtime import clock as clocks
from dpucluster.tenant import answers
from dpucluster.tenant.health import ProbeResult
from dpucluster.tenant.problem import Problem
from dpucluster.tenant.state import Survey

__all__ = ["ProbeResult", "Survey", "is_cluster_admin", "probe", "survey"]

MAX_BODY = 64 * 1024
"""A namespace and the list of failing checks are a few KiB."""

MAX_NODE = 1024 * 1024
"""One Node with everything it carries; etcd takes no object above 1.5 MiB."""

SURVEY_TIMEOUT = 10.0
"""For the questions of a survey, which nobody waits for."""


async def probe(
    client: kube_client.Client, *, peer: answers.Peer, seconds: float = 5.0, clock: clocks.Clock
) -> ProbeResult:
    """One verdict on the API server of ``peer``, within ``seconds``.

    Readiness first, then the namespace ``kube-system``: its UID is the cluster's identity, and
    only it shows missing rights (``/readyz`` answers 200 to a user without any).
    """
    started = clock.monotonic()
    found = await _asked(client, peer, seconds)
    if isinstance(found, Problem):
        return ProbeResult(ok=False, problem=found, started=started)
    return ProbeResult(ok=True, identity=found, started=started)


async def survey(client: kube_client.Client, *, seconds: float = SURVEY_TIMEOUT) -> Survey:
    """Version and number of nodes, each as far as it is told.

    One after the other, on the connection that the probe before has left open. A user who may list
    no nodes is no error here.
    """
    found = Survey()
    try:
        async with asyncio.timeout(seconds):
            found = dataclasses.replace(found, version=await _version(client))
            found = dataclasses.replace(found, nodes_count=await _nodes_count(client))
    except (TimeoutError, errors.DpuClusterError):
        return found
    return found


async def is_cluster_admin(
    client: kube_client.Client, *, seconds: float = SURVEY_TIMEOUT
) -> bool | None:
    """Whether the user may do everything; None: the server does not say."""
    try:
        async with asyncio.timeout(seconds):
            return await _is_admin(client)
    except (TimeoutError, errors.DpuClusterError):
        return None


async def _asked(client: kube_client.Client, peer: answers.Peer, seconds: float) -> Problem | str:
    path = "/readyz"
    try:
        async with asyncio.timeout(seconds):
            reply = await client.raw("GET", path, timeout=seconds, max_bytes=MAX_BODY)
            unready = answers.from_readyz(peer, reply.status, reply.body)
            if unready is not None:
                return unready
            path = kinds.NAMESPACES.path(name="kube-system")
            reply = await client.raw("GET", path, timeout=seconds, max_bytes=MAX_BODY)
            return answers.from_kube_system(peer, reply.status, reply.body)
    except TimeoutError:
        return answers.timed_out(peer, f"GET {path}", seconds)
    except errors.DpuClusterError as error:
        return answers.from_error(error, peer)


async def _version(client: kube_client.Client) -> str:
    reply = await client.raw("GET", "/version", max_bytes=MAX_BODY)
    return answers.version(reply.body) if reply.status == 200 else ""


async def _nodes_count(client: kube_client.Client) -> int | None:
    reply = await client.raw("GET", kinds.NODES.path(), params={"limit": "1"}, max_bytes=MAX_NODE)
    return answers.count(reply.body) if reply.status == 200 else None


async def _is_admin(client: kube_client.Client) -> bool | None:
    everything = {"verb": "*", "group": "*", "version": "*", "resource": "*"}
    review = {
        "apiVersion": kinds.SELF_SUBJECT_ACCESS_REVIEWS.api_version,
        "kind": kinds.SELF_SUBJECT_ACCESS_REVIEWS.kind,
        "spec": {"resourceAttributes": everything},
    }
    path = kinds.SELF_SUBJECT_ACCESS_REVIEWS.path()
    reply = await client.raw("POST", path, body=msgspec.json.encode(review), max_bytes=MAX_BODY)
    return answers.is_allowed(reply.body) if reply.status == 201 else None
