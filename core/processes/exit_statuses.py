"""Why a supervisor was not started or ended without success, as exit statuses."""

NEVER_READY = 1
CANNOT_START = 2
HELD = 3


class StartRefused(Exception):
    """Nothing was started. The message is one line for the user; `status` is the exit status of the process."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
