"""The process of a node: ``python -m dpucluster.localplane.node PLAN``, started by a stack."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

from dpucluster.kube import client as kube_client
from dpucluster.kube import config
from dpucluster.localplane.node import agent, images, network, pod
from dpucluster.localplane.proxy import follower
from dpucluster.runtime import log


async def serve(plan: dict[str, Any]) -> None:
    """Be the node until SIGTERM comes; then its pods are ended."""
    addresses = network.Plan(**plan["network"])
    wires = network.Network(addresses, plan["outside"])
    wires.set_up()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with (
        kube_client.Client(config.load(plan["kubeconfig"], env={})) as client,
        kube_client.Client(config.load(plan["proxy_kubeconfig"], env={})) as proxy_client,
    ):
        host = pod.Host(
            name=addresses.name,
            address=addresses.ip,
            directory=Path(plan["directory"]),
            hosts=Path(plan["hosts"]),
            client=client,
            catalogue=images.Catalogue(**plan["catalogue"]),
            network=wires,
        )
        node = agent.Agent(host)
        working = [
            asyncio.create_task(node.run()),
            asyncio.create_task(follower.Follower(proxy_client, node=addresses.name).run()),
        ]
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({*working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in working:
            task.cancel()
        await node.drain()
        for task in working:
            with contextlib.suppress(asyncio.CancelledError):
                await task


if __name__ == "__main__":
    log.setup("text", 0)
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_bytes())))
