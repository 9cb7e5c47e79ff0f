"""Asks an API server every 100 ms whether it answers. Run as a script, inside.

``vip_probe.py ADDRESS PORT CA SECONDS`` prints one JSON line for each try: when it began, in
seconds of the monotonic clock, how long it took, and what was wrong (nothing: an empty text).
A new connection for each try, as of a client that comes for the first time; the certificate is
checked. Standard library only.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import time

EVERY = 0.1
PATIENCE = 0.5
"""Seconds for an answer; one over a bridge takes a hundredth of that."""


def ask(address: str, port: int, context: ssl.SSLContext) -> str:
    """What is wrong with the server, if anything."""
    connection = http.client.HTTPSConnection(address, port, context=context, timeout=PATIENCE)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()
    return "" if status == http.HTTPStatus.OK else f"HTTP {status}"


def main() -> None:
    """Probe until the time is over."""
    address, port, ca, seconds = sys.argv[1:]
    context = ssl.create_default_context(cafile=ca)
    end = time.monotonic() + float(seconds)
    while (begin := time.monotonic()) < end:
        problem = ask(address, int(port), context)
        took = time.monotonic() - begin
        print(json.dumps({"at": begin, "took": took, "problem": problem}), flush=True)
        time.sleep(max(0.0, EVERY - took))


if __name__ == "__main__":
    main()
