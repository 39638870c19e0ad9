"""One process of the API: `python -m api.server.process`, on its own socket or on sockets that it inherits.

The arguments are the function that makes the application, and the numbers of inherited sockets. uvicorn's own command
takes only one.
"""

import math
import socket
import sys
from collections.abc import Sequence

import uvicorn

from api.server.connections import Connection
from core.settings import Settings, load_settings

FAILED_START = 3
"""The exit status of uvicorn's command."""


def config_of(settings: Settings, factory: str) -> uvicorn.Config:
    """Return how uvicorn serves the application."""
    return uvicorn.Config(
        factory,
        factory=True,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=Connection,
        ws="none",
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),  # it takes whole seconds only
        forwarded_allow_ips=settings.trusted_proxies,
    )


SWITCH_SECONDS = 0.0005
"""Time after which a thread that computes gives way to another: a tenth of the default. A read changes many times
between the event loop and the thread of its session, and waited each time while others kept the loop busy."""


def main(factory: str, descriptors: Sequence[int]) -> None:
    """Serve until a signal asks to stop."""
    sys.setswitchinterval(SWITCH_SECONDS)
    server = uvicorn.Server(config_of(load_settings(), factory))
    server.run([socket.socket(fileno=number) for number in descriptors] or None)
    if not server.started:
        sys.exit(FAILED_START)


if __name__ == "__main__":
    main(sys.argv[1], [int(number) for number in sys.argv[2:]])
