"""The gateway's process: ``python -m dpucluster.localplane.proxy PLAN``, started by a stack."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from dpucluster.kube import client as kube_client
from dpucluster.kube import config
from dpucluster.localplane.proxy import gateway
from dpucluster.localplane.proxy import plan as plans
from dpucluster.runtime import log


async def serve(plan: plans.Plan) -> None:
    """Be the gateway until killed: it keeps nothing."""
    async with kube_client.Client(config.load(plan.kubeconfig, env={})) as client:
        await gateway.Gateway(plan, client).run()


if __name__ == "__main__":
    log.setup("text", 0)
    asyncio.run(serve(plans.Plan(**json.loads(Path(sys.argv[1]).read_bytes()))))
