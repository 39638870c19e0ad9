"""Time stamps of anchors, from a local authority that `openssl ts` makes."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from core.security import time_stamps
from core.security.anchor_key import AnchorKey
from core.security.time_stamps import NotStamped
from core.services.verification.anchoring import anchor_head
from core.services.verification.stamping import stamp_last, unstamped_seconds
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.builders import bank_of_two, fund
from workers.jobs import JOBS, upkeep

KEY = AnchorKey("a key that signs anchors in tests only, 32 bytes and more")

CONFIGURATION = """
[ req ]
distinguished_name = name
x509_extensions = stamping
prompt = no
[ name ]
CN = An authority for tests
[ stamping ]
extendedKeyUsage = critical,timeStamping
[ tsa ]
default_tsa = authority
[ authority ]
serial = serial
signer_cert = authority.pem
signer_key = key.pem
certs = authority.pem
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
"""


def openssl(folder: Path, *words: str) -> str:
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


Answer = Callable[[Path, bytes], bytes]


def stamped(folder: Path, query: bytes) -> bytes:
    """Answer as an authority does."""
    (folder / "query").write_bytes(query)
    openssl(folder, "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "answer")
    return (folder / "answer").read_bytes()


def refused(folder: Path, query: bytes) -> bytes:
    """Answer as an authority that knows no such digest: SHA-256 is written as another algorithm."""
    return stamped(
        folder, query.replace(bytes.fromhex("0609608648016503040201"), bytes.fromhex("0609608648016503040203"))
    )


class Authority:
    """A local authority. `answer` can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tsa.cnf").write_text(CONFIGURATION)
        (folder / "serial").write_text("01\n")
        openssl(
            folder,
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "authority.pem"),
            *("-config", "tsa.cnf", "-days", "2"),
        )
        self.answer: Answer = stamped
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                answer = authority.answer(authority.folder, query)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name of the base class)
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    thread = threading.Thread(target=authority.server.serve_forever)
    thread.start()
    yield authority
    authority.server.shutdown()
    thread.join()
    authority.server.server_close()


@pytest.fixture
def authority(server: Authority) -> Authority:
    server.answer = stamped
    return server


@pytest.fixture
def anchors(database: Database, tmp_path: Path) -> Path:
    path = tmp_path / "anchors.jsonl"
    bank_of_two(database, ada_has=500)
    assert anchor_head(database, KEY, path)
    return path


def test_the_stamp_of_the_newest_anchor_is_one_that_openssl_accepts(anchors: Path, authority: Authority) -> None:
    file = stamp_last(anchors, authority.url)
    assert file is not None
    assert file.stat().st_mode & 0o777 == 0o600
    digest = sha256(anchors.read_text().splitlines()[-1].encode()).hexdigest()
    verify = ("ts", "-verify", "-in", str(file), "-CAfile", "authority.pem", "-digest")
    openssl(authority.folder, *verify, digest)
    with pytest.raises(AssertionError, match="message imprint mismatch"):
        openssl(authority.folder, *verify, "00" * 32)


def test_an_anchor_is_stamped_once_and_the_next_one_again(
    database: Database, anchors: Path, authority: Authority
) -> None:
    assert unstamped_seconds(anchors) > 0
    assert stamp_last(anchors, authority.url)
    assert stamp_last(anchors, authority.url) is None
    assert unstamped_seconds(anchors) == 0
    bank_of_two(database, ada_has=7)
    assert anchor_head(database, KEY, anchors)
    assert unstamped_seconds(anchors) > 0
    assert stamp_last(anchors, authority.url)


def other_digest(folder: Path, query: bytes) -> bytes:
    start = query.index(b"\x04\x20") + 2
    return stamped(folder, query[:start] + bytes(32) + query[start + 32 :])


ANSWERS: dict[str, tuple[Answer, str]] = {
    "a refusal": (refused, "refused, with status 02"),
    "nothing": (lambda _folder, _query: b"", "not a time stamp"),
    "a page": (lambda _folder, _query: b"<html>", "not a time stamp"),
    "half of a stamp": (lambda folder, query: stamped(folder, query)[:500], "not a time stamp"),
    "the stamp of another digest": (other_digest, "for another request"),
    "the stamp of an earlier request": (lambda folder, _query: (folder / "answer").read_bytes(), "for another request"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_another_answer_is_no_stamp_and_is_tried_again(anchors: Path, authority: Authority, answer: str) -> None:
    stamped(authority.folder, time_stamps.request(anchors.read_bytes().strip())[0])
    authority.answer, said = ANSWERS[answer]
    with pytest.raises(NotStamped, match=said):
        stamp_last(anchors, authority.url)
    authority.answer = stamped
    assert stamp_last(anchors, authority.url)


def test_an_authority_that_fails_stops_no_anchor(database: Database, settings: Settings) -> None:
    wanted = settings.model_copy(update={"anchor_stamp_url": "http://127.0.0.1:9/"})
    bank = bank_of_two(database, ada_has=500)
    for _ in range(2):
        upkeep.anchor(database, wanted)
        with capture_logs() as logs:
            upkeep.stamp(database, wanted)
        assert [entry["event"] for entry in logs] == ["anchor_not_stamped"]
        fund(database, bank.ada_account, 5)
    assert len(wanted.anchor_path.read_text().splitlines()) == 2


def test_without_an_address_nothing_is_sent(settings: Settings) -> None:
    (job,) = [job for job in JOBS if job.name == "stamp"]
    assert job.every_seconds is not None
    assert job.every_seconds(settings) == 0
    assert job.every_seconds(settings.model_copy(update={"anchor_stamp_url": "http://127.0.0.1:9/"})) == 300
