"""Running a command of `giro` in this process."""

from core.cli import app
from tests.faults.every.operation import CRASHED, DONE, UNAVAILABLE, Tell


def giro(tell: Tell, *arguments: str) -> None:
    """Run a command and tell how it ended. An exception instead of an exit status is a traceback for the operator."""
    try:
        app(arguments)
    except SystemExit as ended:
        tell(UNAVAILABLE if ended.code else DONE, status=ended.code or 0)
    except Exception as error:
        tell(CRASHED, why=repr(error))
        raise
