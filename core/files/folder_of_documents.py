"""The folder of large documents. A file is named by the id of its document, and only Giro's user can read it."""

from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from uuid import UUID

from core.files import durable


def write(folder: Path, document_id: UUID, content: bytes) -> None:
    """Write the file of a document, which is never visible half written. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.replace(folder / str(document_id), content)


def exists(folder: Path, document_id: UUID) -> bool:
    """Return whether a document has its file."""
    return (folder / str(document_id)).exists()


def open_to_read(folder: Path, document_id: UUID) -> BufferedReader:
    """Open the file of a document. Raises FileNotFoundError if it is missing."""
    return (folder / str(document_id)).open("rb")


def delete(folder: Path, document_id: UUID) -> None:
    """Delete the file of a document, if it exists, and what an interrupted job has left of it. Raises OSError."""
    for path in folder.glob(f"{document_id}*"):
        path.unlink(missing_ok=True)


def present(folder: Path) -> set[UUID]:
    """Return the documents of which there is a file, complete or not. Files with other names are left alone."""
    found = set()
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(ValueError):
                found.add(UUID(path.name.partition(".")[0]))
    return found
