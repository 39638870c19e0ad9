"""The audit of locked packages, against local services in place of the real one."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.security import audit
from tests.security.locks import LOCK_FILES, Locked, locked

pytestmark = pytest.mark.scanner

Question = tuple[str, str]
"""Name and version of a package."""
Answer = tuple[int, str]

NOTHING = (200, "{}")
PROBE = (audit.PROBE.name, audit.PROBE.version)
HASH = "sha256:" + "0" * 64


def hole(name: str, number: str) -> Answer:
    """Return OSV's answer for a package with a vulnerability."""
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}]
    affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}]
    return 200, json.dumps({"vulns": [{"id": number, "summary": "A hole.", "aliases": [], "affected": affected}]})


def knowing(*names: str) -> Callable[[Question], Answer]:
    """Return a service that knows vulnerabilities of these packages, and of the first queried package."""
    return lambda asked: hole(asked[0], f"TEST-{asked[0]}") if asked == PROBE or asked[0] in names else NOTHING


@contextmanager
def service(answer: Callable[[Question], Answer]) -> Iterator[tuple[str, list[Question]]]:
    """Serve OSV's one call on a free port; yield its URL and the queries."""
    asked: list[Question] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((question["package"]["name"], question["version"]))
            status, body = answer(asked[-1])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two packages instead of hundreds, one of them only for another platform."""
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"some==1.0 \\\n    --hash={HASH}\nother==2.0 ; sys_platform == 'emscripten' --hash={HASH}\n")
    monkeypatch.setattr(audit, "HOME", tmp_path)
    monkeypatch.setattr(audit, "LOCK_FILES", [lock])


def test_every_package_of_every_lock_file_is_looked_up(capsys: pytest.CaptureFixture[str]) -> None:
    with service(knowing()) as (url, asked):
        assert audit.main(url) == 0
    packages = {(item.name, item.version) for path in LOCK_FILES for item in locked(path)}
    assert set(asked) == packages | {PROBE}
    count = sum(len(locked(path)) for path in LOCK_FILES)
    summary = f"{count} packages looked up in {len(LOCK_FILES)} lock files: 0 known vulnerabilities\n"
    assert capsys.readouterr().out == summary


@pytest.mark.usefixtures("few")
def test_known_vulnerability_fails_the_audit_with_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    with service(knowing("some")) as (url, _):
        assert audit.main(url) == 1
    assert capsys.readouterr().out.splitlines() == [
        "requirements.lock: some 1.0: TEST-some; fixed in 99.0",
        "2 packages looked up in 1 lock files: 1 known vulnerabilities",
    ]


@pytest.mark.usefixtures("few")
def test_packages_for_other_platforms_are_looked_up() -> None:
    with service(knowing("other")) as (url, _):
        assert audit.main(url) == 1


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda _: NOTHING, id="knows nothing"),
        pytest.param(lambda _: (200, ""), id="answers nothing at all"),
        pytest.param(lambda _: (200, "<html>"), id="is a web page"),
        pytest.param(lambda _: (403, "{}"), id="forbids it"),
        pytest.param(lambda _: (404, "{}"), id="is missing"),
        pytest.param(lambda _: (503, "{}"), id="is unavailable"),
        pytest.param(lambda asked: (503, "{}") if asked[0] == "other" else knowing()(asked), id="becomes unavailable"),
        pytest.param(lambda asked: (200, "") if asked[0] == "other" else knowing()(asked), id="stops answering"),
    ],
)
def test_audit_fails_if_the_service(answer: Callable[[Question], Answer], capsys: pytest.CaptureFixture[str]) -> None:
    with service(answer) as (url, _):
        assert audit.main(url) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("The audit failed: ")


@pytest.mark.usefixtures("few")
def test_audit_fails_without_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with service(knowing()) as (url, _):
        pass
    assert audit.main(url) == 2
    assert "Connection refused" in capsys.readouterr().err


def test_audit_fails_if_a_package_was_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    skipped = audit.Found(looked_up={"some"}, skipped={"other": "not found"})
    monkeypatch.setattr(audit, "look_up", lambda *_: skipped)
    packages = [Locked(name, "1.0", (HASH,)) for name in ("some", "other", "third")]
    with pytest.raises(audit.CouldNotLookError, match=r"skipped: other \(not found\); third \(left out\)"):
        audit.whole(packages, None)


def test_lock_file_without_hashes_is_rejected(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("some==1.0\n")
    with pytest.raises(ValueError, match=r"some==1\.0"):
        locked(lock)
