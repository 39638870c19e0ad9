"""Checks an audit bundle of Giro, offline, without Giro. Needs Python 3.11 or newer, and the package `cryptography`.

    python verify_bundle.py 2026-11.zip --public-key KEY
    python verify_bundle.py 2026-11.zip --anchor anchor.json --transfer 0190c2a4-...

It is written from docs/reference/blocks.md and docs/reference/audit-bundles.md alone, and shares no code with Giro.
Exit status 0 if everything holds, 1 if something does not, 2 if the arguments or the file are not usable.
"""
# ruff: noqa: INP001 (one file to copy, not a package)

import argparse
import json
import struct
import sys
import zipfile
from collections.abc import Collection, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Line = dict[str, Any]

LEG = ("id", "transfer_id", "account_id", "amount", "balance_after", "posted_at", "previous_id")
ENDING = ("from_account_id", "to_account_id", "amount", "submitted_by", "answer_version", "previous_id", "created_at",
          "settled_at")  # fmt: skip
TEXTS = ("kind", "currency", "status", "failure_code", "request_id", "description", "idempotency_key")
FIGURES = ("height", "first_leg_id", "leg_count", "first_sequence", "last_sequence", "ending_count", "made_at")
FILES = ("blocks.jsonl", "transfers.jsonl", "legs.jsonl", "accounts.jsonl", "scars.jsonl", "anchors.jsonl")


class Refused(Exception):
    """The bundle does not hold. The message says where."""


# --- the bytes of docs/reference/blocks.md ---


def packed_leg(leg: Line) -> bytes:
    """Write a leg as its block hashes it."""
    return struct.pack(">7q", *(leg[name] or 0 for name in LEG))


def packed_ending(transfer: Line) -> bytes:
    """Write an ended transfer as its block hashes it."""
    fingerprint = None if transfer["fingerprint"] is None else bytes.fromhex(transfer["fingerprint"])
    texts = [transfer[name] for name in TEXTS]
    lengths = [-1 if value is None else len(value) for value in (*texts, fingerprint)]
    numbers = [transfer[name] or 0 for name in ENDING]
    head = struct.pack(">q16s8q8i", transfer["id"], UUID(transfer["public_id"]).bytes, *numbers, *lengths)
    return head + "".join(text or "" for text in texts).encode() + (fingerprint or b"")


def packed_block(block: Line) -> bytes:
    """Write a block as the scar that replaces it hashes it."""
    return struct.pack(">12s7q32s", block["kind"].encode(), *(block[n] for n in FIGURES), bytes.fromhex(block["hash"]))


def hash_of(block: Line, previous: bytes, legs: bytes, endings: bytes, testimony: bytes) -> bytes:
    """Compute the hash of a block."""
    figures = [block[name] for name in FIGURES]
    header = struct.pack(
        ">14s32s12s7q32s32s", b"giro.block.v1\0", previous, block["kind"].encode(), *figures, legs, endings
    )
    return sha256(header + testimony).digest()


def require_signature(public_key: str, signature: str, signed: bytes, name: str) -> None:
    """Refuse a signature that the key did not make."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), signed)
    except (InvalidSignature, ValueError):
        raise Refused(f"{name} is not signed with the key {public_key}") from None


def check_anchor(anchor: Line, public_key: str, name: str) -> None:
    """Refuse an anchor that is not signed with a key."""
    if anchor["public_key"] != public_key:
        raise Refused(f"{name} is signed with another key, {anchor['public_key']}")
    signed = struct.pack(
        ">15sq32sq", b"giro.anchor.v1\0", anchor["height"], bytes.fromhex(anchor["hash"]), anchor["anchored_at"]
    )
    require_signature(public_key, anchor["signature"], signed, name)


# --- a bundle ---


class Bundle:
    """A bundle that is read once, in parallel through its files. Memory grows with accounts and scars only."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        self.manifest: Line = json.loads(self._archive.read("manifest.json"))
        if self.manifest.get("format") != "giro.audit.v1":
            raise Refused("the format is not giro.audit.v1")

    def lines(self, name: str) -> Iterator[Line]:
        """Read a file, and refuse it at its end if it is not the one that the manifest names."""
        digest, count, expected = sha256(), 0, self.manifest["files"][name]
        with self._archive.open(name) as file:
            for line in file:
                digest.update(line)
                count += 1
                yield json.loads(line)
        if (count, digest.hexdigest()) != (expected["lines"], expected["sha256"]):
            raise Refused(f"{name} is not the file that the manifest names")


class Check:
    """The check of one bundle."""

    def __init__(self, bundle: Bundle, wanted: str | None) -> None:
        self.bundle, self.wanted = bundle, wanted
        self.scars = {scar["last_height"] + 1: scar for scar in bundle.lines("scars.jsonl")}
        self.anchors = {anchor["height"]: anchor for anchor in bundle.lines("anchors.jsonl")}
        self.balances: dict[int, list[int]] = {}
        """The opening balance, the last balance and the last leg of each account."""
        self.currencies: dict[int, str] = {}
        self.found: tuple[Line, list[Line], Line] | None = None
        self.counts = dict.fromkeys(("blocks", "transfers", "legs"), 0)
        self.hashes: dict[int, bytes] = {}
        """The hashes of anchored blocks, as computed."""
        self.proven_up_to = -1

    def run(self, public_key: str | None, outside: list[Line]) -> None:
        """Refuse the bundle unless everything in it holds, and agrees with the key and the anchors from outside."""
        key = public_key or (outside[0]["public_key"] if outside else None) or self.bundle.manifest["public_key"]
        wanted = {anchor["height"]: anchor for anchor in outside}
        self._read_blocks(key, self.anchors.keys() | wanted.keys())
        for origin, anchors in (("in the bundle", self.anchors), ("from outside", wanted)):
            for height, anchor in anchors.items():
                self._check_anchor(
                    anchor, key, f"the anchor {origin} of block {height}", outside=origin == "from outside"
                )
        self._check_accounts()

    def _read_blocks(self, key: str | None, anchored: Collection[int]) -> None:
        """Follow the chain through the bundle, and compute every hash again."""
        manifest = self.bundle.manifest
        previous, next_leg = bytes.fromhex(manifest["previous_hash"]), manifest["previous_leg_id"] + 1
        transfers, legs = self.bundle.lines("transfers.jsonl"), self.bundle.lines("legs.jsonl")
        height, settled, replaced = manifest["first_height"], -1, sha256()
        for block in self.bundle.lines("blocks.jsonl"):
            if self._scar_over(block["height"]):
                replaced.update(packed_block(block))
                continue
            testimony = b""
            if block["kind"] == "scar":
                testimony, replaced = self._testimony(block, replaced.digest(), key), sha256()
                height = block["height"]
            settled = check_place(block, height, next_leg, settled)
            previous = hash_of(block, previous, *self._read_rows(block, transfers, legs), testimony)
            if previous.hex() != block["hash"]:
                raise Refused(f"block {height} does not have the hash of its transfers and legs")
            if height in anchored:
                self.hashes[height] = previous
            self.counts["blocks"] += 1
            height, next_leg = height + 1, next_leg + block["leg_count"]
        if height - 1 != manifest["last_height"]:
            raise Refused(f"the blocks end at {height - 1}, not at {manifest['last_height']}")
        for name, rest in (("transfers.jsonl", transfers), ("legs.jsonl", legs)):
            if next(rest, None) is not None:
                raise Refused(f"{name} has lines that no block covers")

    def _scar_over(self, height: int) -> Line | None:
        return next(
            (scar for scar in self.scars.values() if scar["first_height"] <= height <= scar["last_height"]), None
        )

    def _testimony(self, block: Line, replaced: bytes, key: str | None) -> bytes:
        scar = self.scars.get(block["height"])
        if scar is None:
            raise Refused(f"block {block['height']} is a scar, and scars.jsonl does not describe it")
        name = f"block {block['height']}"
        if scar["public_key"] != key:
            raise Refused(f"{name} is signed with another key")
        require_signature(scar["public_key"], scar["signature"], b"giro.scar.v1\0" + bytes.fromhex(block["hash"]), name)
        print(f"SCAR: {name} replaces blocks {scar['first_height']} to {scar['last_height']}: {scar['reason']}")
        reason = sha256(scar["reason"].encode()).digest()
        operators = (scar["proposed_by"], scar["confirmed_by"])
        return struct.pack(">2q32s32s2q", scar["first_height"], scar["last_height"], replaced, reason, *operators)

    def _read_rows(self, block: Line, transfers: Iterator[Line], legs: Iterator[Line]) -> tuple[bytes, bytes]:
        """Check the transfers and legs of a block, and return their hashes."""
        hashed_legs, hashed_endings, left, after = sha256(), sha256(), block["leg_count"], -1
        for _ in range(block["ending_count"]):
            transfer = next(transfers, None)
            if transfer is None:
                raise Refused(f"block {block['height']} has fewer transfers than it says")
            hashed_endings.update(packed_ending(transfer))
            own = [next(legs, {}) for _ in range(min(2, left))] if transfer["status"] == "completed" else []
            left -= len(own)
            for leg in own:
                if not leg:
                    raise Refused(f"block {block['height']} has fewer legs than it says")
                hashed_legs.update(packed_leg(leg))
            check_transfer(transfer, own, block, after)
            for leg in own:
                self._post(leg, transfer["currency"])
            after = transfer["id"]
            self.counts["transfers"] += 1
            if self.wanted in (transfer["public_id"], str(transfer["id"])):
                self.found = (transfer, own, block)
        if left:
            raise Refused(f"block {block['height']} has {left} legs of no transfer")
        return hashed_legs.digest(), hashed_endings.digest()

    def _post(self, leg: Line, currency: str) -> None:
        account, balance = leg["account_id"], leg["balance_after"]
        opening, last, last_leg = self.balances.get(
            account, [balance - leg["amount"], balance - leg["amount"], leg["previous_id"]]
        )
        if last + leg["amount"] != balance:
            raise Refused(f"leg {leg['id']} leaves {balance}, not {last + leg['amount']}")
        if leg["previous_id"] != last_leg:
            raise Refused(f"leg {leg['id']} names {leg['previous_id']} before it, not {last_leg}")
        if self.currencies.setdefault(account, currency) != currency:
            raise Refused(f"account {account} has legs in two currencies")
        self.balances[account] = [opening, balance, leg["id"]]
        self.counts["legs"] += 1

    def _check_anchor(self, anchor: Line, key: str, name: str, *, outside: bool) -> None:
        check_anchor(anchor, key, name)
        height = anchor["height"]
        if self._scar_over(height):
            if outside:
                raise Refused(f"{name} proves nothing: a scar replaces that block")
            return
        if height not in self.hashes:
            raise Refused(f"{name}: the bundle has no such block")
        if self.hashes[height].hex() != anchor["hash"]:
            raise Refused(f"{name}: that block has another hash")
        self.proven_up_to = max(self.proven_up_to, height)

    def _check_accounts(self) -> None:
        listed = set()
        for account in self.bundle.lines("accounts.jsonl"):
            listed.add(account["id"])
            opening, closing, _ = self.balances.get(account["id"], [None, None, None])
            if (account["opening"], account["closing"]) != (opening, closing):
                raise Refused(
                    f"account {account['id']}: its legs go from {opening} to {closing}, the file says otherwise"
                )
            if account["currency"] != self.currencies[account["id"]]:
                raise Refused(f"account {account['id']} is not in {account['currency']}")
        if missing := self.balances.keys() - listed:
            raise Refused(f"accounts.jsonl lacks account {min(missing)}")


def check_place(block: Line, height: int, next_leg: int, settled: int) -> int:
    """Refuse a block that does not follow the one before. Returns the last transfer that is settled after it."""
    if block["height"] != height:
        raise Refused(f"block {height} is missing: block {block['height']} follows")
    if block["first_leg_id"] != next_leg:
        raise Refused(f"block {height} begins at leg {block['first_leg_id']}, not {next_leg}")
    if block["kind"] == "cancellation":
        return settled
    if block["first_sequence"] <= settled:
        raise Refused(f"block {height} covers transfers that an earlier block covers")
    last: int = block["last_sequence"]
    return max(settled, last)


def check_transfer(transfer: Line, legs: list[Line], block: Line, after: int) -> None:
    """Refuse a transfer that its block cannot cover, or whose legs are not its own."""
    sequence, status, kind = transfer["id"], transfer["status"], block["kind"]
    if not block["first_sequence"] <= sequence <= block["last_sequence"] or sequence <= after:
        raise Refused(f"transfer {sequence} is not where block {block['height']} covers it")
    if status not in {"settlement": ("completed", "failed"), "cancellation": ("cancelled",)}.get(
        kind, ("completed", "failed", "cancelled")
    ):
        raise Refused(f"transfer {sequence} is {status} in a block of kind {kind}")
    sides = [(leg["transfer_id"], leg["account_id"], leg["amount"]) for leg in legs]
    amount = transfer["amount"]
    expected = [(sequence, transfer["from_account_id"], -amount), (sequence, transfer["to_account_id"], amount)]
    if sides != (expected if status == "completed" else []):
        raise Refused(f"transfer {sequence} is {status}, and its legs say {sides}")


# --- the command ---


def main(arguments: list[str]) -> int:
    """Check a bundle, and return the exit status."""
    parser = argparse.ArgumentParser(description="Check an audit bundle of Giro, offline.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--public-key", help="the bank's key (64 hex digits), as you know it")
    parser.add_argument("--anchor", type=Path, action="append", default=[], help="a file of anchors that you kept")
    parser.add_argument("--transfer", help="the id or the sequence of a transfer to prove")
    options = parser.parse_args(arguments)
    try:
        outside = [
            json.loads(line) for path in options.anchor for line in path.read_text().splitlines() if line.strip()
        ]
        check = Check(Bundle(options.bundle), options.transfer)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        print(f"not usable: {error}", file=sys.stderr)
        return 2
    except Refused as refused:
        print(f"REFUSED: {refused}", file=sys.stderr)
        return 1
    try:
        check.run(options.public_key, outside)
        return report(check, known_key=bool(options.public_key or outside))
    except Refused as refused:
        print(f"REFUSED: {refused}", file=sys.stderr)
    except (ValueError, KeyError, TypeError, struct.error, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        print(f"REFUSED: a line is not what the format says: {error!r}", file=sys.stderr)
    return 1


def report(check: Check, *, known_key: bool) -> int:
    """Print what was checked, and the proof of the wanted transfer."""
    counts, last = check.counts, check.bundle.manifest["last_height"]
    print(f"{counts['blocks']} blocks, {counts['transfers']} transfers, {counts['legs']} legs: everything holds")
    print(f"anchors prove everything up to block {check.proven_up_to} of {last}")
    if not known_key:
        print(f"compare the key with the one that you know: {check.bundle.manifest['public_key']}")
    if check.wanted is None:
        return 0
    if check.found is None:
        raise Refused(f"the bundle has no transfer {check.wanted}")
    transfer, legs, block = check.found
    print(json.dumps({"transfer": transfer, "legs": legs, "block": block}, indent=2, ensure_ascii=False))
    if block["height"] > check.proven_up_to:
        raise Refused(f"no anchor proves block {block['height']} yet")
    print(f"PROVEN: transfer {transfer['public_id']} is {transfer['status']}, in block {block['height']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
