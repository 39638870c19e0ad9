"""Audit bundles: an independent checker accepts them, and refuses every change."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from core.clock import now_us, to_datetime
from core.domain.anchors import to_line
from core.domain.statements import Period
from core.security.anchor_key import AnchorKey
from core.services.transfers import cancelling
from core.services.verification import Anchors, bundles, resealing
from core.services.verification.anchoring import anchor_head
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, accepted, add_user, author, from_ada_to_bob, from_bob_to_ada, settle_all
from tests.tampering import tamper
from tests.time_travel import Clock

pytestmark = pytest.mark.funded(ada_has=1000, bob_has=500)

CHECKER = Path(__file__).parents[4] / "deploy/audit/verify_bundle.py"
KEY = AnchorKey("a key that signs anchors in tests only, 32 bytes and more")
STRANGER = AnchorKey("the key of somebody else, who knows how anchors are made")
UTC = ZoneInfo("UTC")

Lines = dict[str, list[dict[str, Any]]]
Edit = Callable[[Lines, dict[str, Any]], None]


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_bundle", CHECKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def anchors(tmp_path: Path) -> Anchors:
    return Anchors(tmp_path / "anchors.jsonl", KEY.public)


@pytest.fixture
def bank(database: Database, bank: Bank, anchors: Anchors) -> Bank:
    """A bank with settled transfers in several blocks, a cancelled one between two of them, and two anchors."""
    accepted(database, from_ada_to_bob(bank, 100))
    accepted(database, from_bob_to_ada(bank, 40))
    settle_all(database)
    assert anchor_head(database, KEY, anchors.path)
    accepted(database, from_ada_to_bob(bank, 6))
    cancelled = accepted(database, from_ada_to_bob(bank, 5))
    with unit_of_work(database) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=cancelled.id)
    accepted(database, from_ada_to_bob(bank, 7))
    settle_all(database)
    assert anchor_head(database, KEY, anchors.path)
    return bank


@pytest.fixture
def made(database: Database, bank: Bank, anchors: Anchors, tmp_path: Path) -> Path:
    path = tmp_path / "month.zip"
    bundles.write(database, anchors, Period.of(to_datetime(now_us()), UTC), UTC, path)
    return path


def rewrite(path: Path, edit: Edit) -> None:
    """Change a bundle as a forger does: the manifest fits the changed files again."""
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        lines = {name: [json.loads(line) for line in archive.read(name).splitlines()] for name in manifest["files"]}
    edit(lines, manifest)
    with zipfile.ZipFile(path, "w") as archive:
        for name, found in lines.items():
            written = "".join(json.dumps(line) + "\n" for line in found).encode()
            manifest["files"][name] = {"lines": len(found), "sha256": sha256(written).hexdigest()}
            archive.writestr(name, written)
        archive.writestr("manifest.json", json.dumps(manifest))


def test_the_checker_accepts_a_bundle_without_giro(made: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-I", str(CHECKER), str(made), "--public-key", KEY.public.hex()],
        capture_output=True,
        text=True,
        check=False,
        cwd=made.parent,
    )
    assert found.returncode == 0, found.stderr
    assert "everything holds" in found.stdout


def test_a_transfer_is_proven_by_its_id(
    made: Path, checker: ModuleType, capsys: pytest.CaptureFixture[str], anchors: Anchors
) -> None:
    with zipfile.ZipFile(made) as archive:
        transfers = [json.loads(line) for line in archive.read("transfers.jsonl").splitlines()]
    for transfer in transfers:
        assert checker.main([str(made), "--anchor", str(anchors.path), "--transfer", transfer["public_id"]]) == 0
        assert f"PROVEN: transfer {transfer['public_id']} is {transfer['status']}" in capsys.readouterr().out
    assert {transfer["status"] for transfer in transfers} == {"completed", "cancelled"}
    assert checker.main([str(made), "--transfer", "00000000-0000-7000-8000-000000000000"]) == 1


def test_a_transfer_that_no_anchor_covers_is_not_proven(
    database: Database, bank: Bank, anchors: Anchors, tmp_path: Path, checker: ModuleType
) -> None:
    newest = accepted(database, from_ada_to_bob(bank, 1))
    settle_all(database)
    path = tmp_path / "later.zip"
    bundles.write(database, anchors, Period.of(to_datetime(now_us()), UTC), UTC, path)
    assert checker.main([str(path)]) == 0
    assert checker.main([str(path), "--transfer", str(newest.id)]) == 1


def consistent_amount(lines: Lines, _manifest: dict[str, Any]) -> None:
    """Change a transfer and everything that depends on its amount, except the hashes."""
    transfer = lines["transfers.jsonl"][-1]
    transfer["amount"] += 1
    debit, credit = lines["legs.jsonl"][-2:]
    debit["amount"] -= 1
    debit["balance_after"] -= 1
    credit["amount"] += 1
    credit["balance_after"] += 1
    for account in lines["accounts.jsonl"]:
        account["closing"] += {debit["account_id"]: -1, credit["account_id"]: 1}.get(account["id"], 0)


def drop_block(lines: Lines, manifest: dict[str, Any]) -> None:
    """Drop the last block with its transfers, their legs and its anchor."""
    block = lines["blocks.jsonl"].pop()
    del lines["transfers.jsonl"][-block["ending_count"] :]
    del lines["legs.jsonl"][-block["leg_count"] :]
    lines["anchors.jsonl"].pop()
    manifest["last_height"] -= 1
    for account in lines["accounts.jsonl"]:
        own = [leg["balance_after"] for leg in lines["legs.jsonl"] if leg["account_id"] == account["id"]]
        account["closing"] = own[-1]


def other_key(lines: Lines, manifest: dict[str, Any]) -> None:
    manifest["public_key"] = STRANGER.public.hex()
    lines["anchors.jsonl"] = [
        json.loads(to_line(STRANGER.sign(anchor["height"], bytes.fromhex(anchor["hash"]), anchor["anchored_at"])))
        for anchor in lines["anchors.jsonl"]
    ]


def swap(name: str, first: int, second: int) -> Edit:
    def edit(lines: Lines, _manifest: dict[str, Any]) -> None:
        rows = lines[name]
        rows[first], rows[second] = rows[second], rows[first]

    return edit


def put(name: str, index: int, **values: object) -> Edit:
    return lambda lines, _manifest: lines[name][index].update(values)


def drop(name: str, index: int) -> Edit:
    return lambda lines, _manifest: lines[name].pop(index) and None


CHANGES: dict[str, tuple[Edit, str]] = {
    "a changed amount": (put("transfers.jsonl", -1, amount=700), "its legs say"),
    "a changed amount with its legs": (consistent_amount, "does not have the hash"),
    "a changed description": (put("transfers.jsonl", 0, description="x"), "does not have the hash"),
    "a changed time": (put("transfers.jsonl", 0, settled_at=5), "does not have the hash"),
    "a changed end": (put("transfers.jsonl", -1, status="failed"), "its legs say|legs of no transfer"),
    "a dropped leg": (drop("legs.jsonl", 2), "its legs say"),
    "a dropped last leg": (drop("legs.jsonl", -1), "fewer legs"),
    "a leg too many": (lambda lines, _: lines["legs.jsonl"].append(lines["legs.jsonl"][-1]), "no block covers"),
    "a dropped transfer": (drop("transfers.jsonl", 1), "is not where|its legs say"),
    "a dropped block": (drop("blocks.jsonl", 2), "is missing"),
    "a dropped end": (drop_block, "has no such block"),
    "swapped transfers": (swap("transfers.jsonl", 2, 3), "is not where|its legs say"),
    "swapped blocks": (swap("blocks.jsonl", 1, 2), "is missing"),
    "swapped legs": (swap("legs.jsonl", 0, 1), "its legs say"),
    "a wrong hash": (put("blocks.jsonl", 1, hash="00" * 32), "does not have the hash"),
    "a wrong balance after a leg": (put("legs.jsonl", -1, balance_after=5), "leaves 5"),
    "a wrong closing balance": (put("accounts.jsonl", -1, closing=5), "its legs go from"),
    "a wrong opening balance": (put("accounts.jsonl", 0, opening=5), "its legs go from"),
    "a missing account": (drop("accounts.jsonl", 0), "lacks account"),
    "another key": (other_key, "another key"),
    "a forged anchor": (put("anchors.jsonl", 0, hash="11" * 32), "is not signed"),
    "a forged signature": (put("anchors.jsonl", 0, signature="11" * 64), "is not signed"),
    "an anchor of another block": (put("anchors.jsonl", 0, height=1), "is not signed"),
    "a missing field": (lambda lines, _: lines["legs.jsonl"][0].pop("amount") and None, "not what the format says"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_bundle_is_refused(
    made: Path, checker: ModuleType, capsys: pytest.CaptureFixture[str], change: str, anchors: Anchors
) -> None:
    edit, said = CHANGES[change]
    rewrite(made, edit)
    assert checker.main([str(made), "--public-key", KEY.public.hex(), "--anchor", str(anchors.path)]) == 1
    refused = capsys.readouterr().err
    assert any(part in refused for part in said.split("|")), refused


def test_a_file_that_the_manifest_does_not_name_is_refused(
    made: Path, checker: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(made, lambda _lines, manifest: manifest.update(made_at=1))
    with zipfile.ZipFile(made) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["blocks.jsonl"] += b"\n"
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    assert checker.main([str(made)]) == 1
    (made.parent / "no.zip").write_text("no bundle")
    assert checker.main([str(made.parent / "no.zip")]) == 2
    capsys.readouterr()


def test_hashes_computed_again_do_not_fit_an_anchor_from_outside(
    made: Path, checker: ModuleType, capsys: pytest.CaptureFixture[str], anchors: Anchors
) -> None:
    """The forger knows the format, computes every hash again with the checker itself, and drops the anchors."""

    def forge(lines: Lines, manifest: dict[str, Any]) -> None:
        lines["transfers.jsonl"][0]["description"] = "forged"
        lines["anchors.jsonl"] = []
        transfers, legs = iter(lines["transfers.jsonl"]), iter(lines["legs.jsonl"])
        previous = bytes.fromhex(manifest["previous_hash"])
        for block in lines["blocks.jsonl"]:
            endings = [checker.packed_ending(next(transfers)) for _ in range(block["ending_count"])]
            own = [checker.packed_leg(next(legs)) for _ in range(block["leg_count"])]
            digests = (sha256(b"".join(own)).digest(), sha256(b"".join(endings)).digest())
            previous = checker.hash_of(block, previous, *digests, b"")
            block["hash"] = previous.hex()

    rewrite(made, forge)
    assert checker.main([str(made)]) == 0, "it agrees with itself, and says that no anchor proves it"
    assert "up to block -1" in capsys.readouterr().out
    assert checker.main([str(made), "--anchor", str(anchors.path)]) == 1
    assert "that block has another hash" in capsys.readouterr().err


def test_a_scar_is_told_and_anchors_from_before_prove_nothing(
    database: Database,
    bank: Bank,
    anchors: Anchors,
    tmp_path: Path,
    checker: ModuleType,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = tmp_path / "before.jsonl"
    before.write_text(anchors.path.read_text().splitlines()[-1])
    tamper(database, "UPDATE transfers SET description = 'forged' WHERE id = 3")
    with unit_of_work(database) as connection:
        first, second = (author(add_user(connection)) for _ in range(2))
    proposal, _ = resealing.propose(database, first, anchors, "case 12")
    assert resealing.confirm(database, second, proposal.id, KEY, anchors.path).holds
    path = tmp_path / "scarred.zip"
    bundles.write(database, anchors, Period.of(to_datetime(now_us()), UTC), UTC, path)
    assert checker.main([str(path), "--public-key", KEY.public.hex()]) == 0
    assert "SCAR: block" in capsys.readouterr().out
    assert checker.main([str(path), "--anchor", str(before)]) == 1
    assert "a scar replaces that block" in capsys.readouterr().err
    for edit in (put("scars.jsonl", 0, reason="nothing"), put("scars.jsonl", 0, signature="11" * 64)):
        rewrite(path, edit)
        assert checker.main([str(path)]) == 1


def test_a_later_month_begins_where_the_earlier_one_ended(
    database: Database, bank: Bank, anchors: Anchors, tmp_path: Path, checker: ModuleType, clock: Clock
) -> None:
    earlier = Period.of(to_datetime(now_us()), UTC)
    clock.advance(days=4000)
    accepted(database, from_ada_to_bob(bank, 11))
    settle_all(database)
    assert anchor_head(database, KEY, anchors.path)
    later = Period.of(to_datetime(now_us()), UTC)
    path = tmp_path / "later.zip"
    manifest = bundles.write(database, anchors, later, UTC, path)
    assert manifest["files"]["transfers.jsonl"]["lines"] == 1
    assert checker.main([str(path), "--public-key", KEY.public.hex()]) == 0
    with pytest.raises(FileExistsError):
        bundles.write(database, anchors, later, UTC, path)
    with pytest.raises(bundles.NothingToBundle):
        bundles.write(database, anchors, earlier.following, UTC, tmp_path / "none.zip")
    assert [file.name for file in tmp_path.glob("*.part")] == []
