"""The health check of a container: `python -m core.processes.healthcheck`, exit status 0 if all in it is healthy.

Every part of the service writes heartbeats; the API has to be ready as well. The check runs every few seconds, so it
uses only the standard library, and reads the few settings that it needs without checking them: `giro` has done that.
"""

import http.client
import os
import sys
from pathlib import Path

from core.processes import heartbeats

SILENT_SECONDS = 20.0
PROBE_SECONDS = 3.0


def complaint() -> str | None:
    """Describe the first problem of the processes on this host; None if all are healthy."""
    beats = heartbeats.here(Path(os.environ.get("GIRO_DATA_DIR") or "data").absolute() / "run")
    if not beats:
        return "no heartbeat file"
    silent = float(os.environ.get("GIRO_SILENT_SECONDS") or SILENT_SECONDS)
    for name, age in beats.items():
        if age > silent:
            return f"{name} has not beaten for {age:.0f} s"
    return _api_complaint() if "api" in beats else None


def _api_complaint() -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("GIRO_PORT") or 8000), PROBE_SECONDS)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        return None if answer.status == 200 else f"the API is not ready: {answer.read(1000).decode(errors='replace')}"
    except OSError as error:
        return f"the API does not answer: {error}"
    finally:
        connection.close()


if __name__ == "__main__":
    found = complaint()
    if found is not None:
        print(found)
    sys.exit(0 if found is None else 1)
