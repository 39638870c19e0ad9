"""The keys that sign access tokens: their text form, and rotation without rejecting a valid token."""

import errno
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest
from pydantic import SecretStr

from core.clock import now_us
from core.domain.errors import CommonError, Refusal, Unavailable
from core.files import durable
from core.security import access_tokens, token_keys
from core.security.access_tokens import AccessTokens, Claims
from core.security.fingerprints import fingerprints
from core.security.secrets import KeptSecret, Secrets
from core.security.token_keys import MARGIN_SECONDS, TokenKeys, TokenRing
from core.services import token_keys as service
from core.settings import Settings, SettingsError, load_settings
from core.settings.key_lists import TokenKey, parse_token_keys, write_token_keys
from core.storage.sqlite.engine import Database
from tests.builders import author, rows
from tests.unit.cli.test_cli import everything_said, giro
from tests.unit.settings.complaints import complaint

ADA = Claims(UUID("0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b"), 3)
ONE, TWO, THREE = "one" * 12, "two" * 12, "three" * 12
LIFE = 900


@pytest.fixture
def kept(settings: Settings) -> Settings:
    """Settings whose keys are in the data folder."""
    return settings.model_copy(update={"jwt_secret": None})


@pytest.fixture
def never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are never checked by the clock, so that a change is noticed for another reason."""
    monkeypatch.setattr(token_keys, "LOOK_SECONDS", 10**9)


@pytest.fixture
def always_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time advances by a second before each call."""
    monkeypatch.setattr(token_keys, "LOOK_SECONDS", 0)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Advance the clock, for the keys and for remembered tokens."""
    then = now_us()

    def at(seconds: int) -> None:
        for module in (access_tokens, token_keys):
            monkeypatch.setattr(module, "now_us", lambda: then + seconds * 1_000_000)

    at(0)
    return at


def tokens(settings: Settings) -> AccessTokens:
    """The tokens of one process, with its own keys."""
    return AccessTokens(TokenKeys(Secrets(settings)), seconds=LIFE)


def given(settings: Settings, text: str) -> Settings:
    """Settings that contain these keys."""
    return settings.model_copy(update={"jwt_secret": SecretStr(text)})


def rotate(database: Database, settings: Settings, **how: bool) -> TokenRing:
    """Rotate as the command does, in a process that has its own keys."""
    return service.rotate(database, TokenKeys(Secrets(settings)), author(1), token_seconds=LIFE, **how)


def is_refused(process: AccessTokens, token: str) -> bool:
    try:
        process.read(token)
    except Refusal as refusal:
        return refusal.code is CommonError.UNAUTHENTICATED
    return False


def kid_of(token: str) -> Any:
    return jwt.get_unverified_header(token)["kid"]


# --- text form ---


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (ONE, [TokenKey(1, ONE)]),
        (f"a{ONE}:{TWO},{THREE}", [TokenKey(1, f"a{ONE}:{TWO},{THREE}")]),
        (f"7:{ONE}", [TokenKey(7, ONE)]),
        (f"2:{TWO},1:{ONE}", [TokenKey(2, TWO), TokenKey(1, ONE)]),
        (
            f" 3:{THREE} , 2@1700000000:{TWO} ,1:{ONE}",
            [TokenKey(3, THREE), TokenKey(2, TWO, 1700000000), TokenKey(1, ONE)],
        ),
        (f"2:{TWO},1:9@8:{ONE}", [TokenKey(2, TWO), TokenKey(1, f"9@8:{ONE}")]),
    ],
)
def test_keys_are_read_as_one_secret_or_as_several_by_version(text: str, keys: list[TokenKey]) -> None:
    assert parse_token_keys(text) == tuple(keys)
    if "," not in keys[0].secret:
        assert parse_token_keys(write_token_keys(keys)) == tuple(keys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x" * 31, "needs at least 32 bytes"),
        ("", "needs at least 32 bytes"),
        (f"2:{TWO},1:short", "the secret of version 1 needs at least 32 bytes"),
        (f"1:{ONE},2:{TWO}", "the newest key comes first"),
        (f"1:{ONE},1:{TWO}", "the newest key comes first"),
        (f"2:{TWO},{ONE}", "item 2 must be `version:secret`"),
        (f"0:{ONE}", "must be from 1 to"),
        (f"2@1700000000:{TWO},1:{ONE}", "the newest key signs, so it cannot have an end"),
        (f"2:{TWO},1@soon:{ONE}", "item 2 must be `version:secret`"),
        (f"1@:{ONE}", "item 1 must be `version:secret`"),
    ],
)
def test_an_invalid_key_stops_the_start_with_one_line(
    clean_environment: pytest.MonkeyPatch, tmp_path: Path, text: str, words: str
) -> None:
    if text:
        clean_environment.setenv("JWT_SECRET", text)
        assert complaint().startswith("JWT_SECRET: ")
        assert words in complaint()
        clean_environment.delenv("JWT_SECRET")
    kept = tmp_path / "data" / "secrets" / "jwt_secret"
    kept.parent.mkdir(parents=True)
    kept.write_text(text)
    with pytest.raises(SettingsError, match=r"jwt_secret has no valid key that signs tokens: ") as refused:
        TokenKeys(Secrets(load_settings()))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not any(secret in str(refused.value) for secret in (ONE, TWO, "short"))


def test_a_token_names_the_key_that_signed_it(settings: Settings) -> None:
    several = given(settings, f"2:{TWO},1:{ONE}")
    assert (kid_of(tokens(settings).issue(ADA)), kid_of(tokens(several).issue(ADA))) == ("1", "2")


def test_a_setting_can_hold_several_keys_and_all_of_them_are_accepted(settings: Settings) -> None:
    old, both, new = (tokens(given(settings, text)) for text in (ONE, f"2:{TWO},1:{ONE}", f"2:{TWO}"))
    assert both.read(old.issue(ADA)) == both.read(new.issue(ADA)) == new.read(both.issue(ADA)) == ADA
    assert is_refused(new, old.issue(ADA))
    assert is_refused(old, new.issue(ADA))


def test_a_key_is_accepted_under_its_own_version_only(settings: Settings) -> None:
    process, swapped = (tokens(given(settings, text)) for text in (f"2:{TWO},1:{ONE}", f"2:{ONE},1:{TWO}"))
    assert is_refused(process, swapped.issue(ADA))


# --- rotation ---


def test_a_new_key_signs_and_the_old_one_is_accepted_until_its_tokens_expire(
    database: Database, kept: Settings, later: Callable[[int], None]
) -> None:
    process = tokens(kept)
    before = process.issue(ADA)
    ring = rotate(database, kept)
    assert [(key.version, key.until is None) for key in ring.keys] == [(2, True), (1, False)]
    assert kid_of(process.issue(ADA)) == "2"
    assert process.read(before) == ADA
    later(LIFE - 1)
    assert process.read(before) == ADA
    forged = jwt.encode(
        jwt.decode(before, options={"verify_signature": False}) | {"exp": now_us() // 10**6 + 20_000},
        ring.keys[1].secret,
        headers={"kid": "1"},
    )
    assert process.read(forged) == ADA, "this is why the old key must be dropped"
    later(LIFE + MARGIN_SECONDS + 1)
    assert is_refused(process, forged), "although it is remembered and expires much later"
    assert is_refused(tokens(kept), forged)


def test_the_next_rotation_drops_expired_keys(database: Database, kept: Settings, later: Callable[[int], None]) -> None:
    assert [key.version for key in rotate(database, kept).keys] == [2, 1]
    end = rotate(database, kept).keys[2].until
    later(LIFE // 2)
    assert [(key.version, key.until) for key in rotate(database, kept).keys][3] == (1, end), "no expiry is postponed"
    later(LIFE + MARGIN_SECONDS + 1)
    assert [key.version for key in rotate(database, kept).keys] == [5, 4, 3]
    assert [key.version for key in parse_token_keys(Secrets(kept).token_keys.path.read_text())] == [5, 4, 3]


def test_at_once_drops_the_old_key_immediately(database: Database, kept: Settings, always_looks: None) -> None:
    process = tokens(kept)
    before = process.issue(ADA)
    assert process.read(before) == ADA
    assert [key.version for key in rotate(database, kept, at_once=True).keys] == [2]
    assert is_refused(process, before), "although it is remembered"
    assert process.read(process.issue(ADA)) == ADA


def test_a_key_that_another_process_dropped_is_dropped_within_a_second(database: Database, kept: Settings) -> None:
    process = tokens(kept)
    before = process.issue(ADA)
    assert process.read(before) == ADA
    rotate(database, kept, at_once=True)
    process._keys._look_at -= token_keys.LOOK_SECONDS
    assert is_refused(process, before)


def test_a_token_signed_with_a_key_that_is_not_loaded_yet_is_accepted(
    database: Database, kept: Settings, never_looks: None
) -> None:
    one, other = tokens(kept), tokens(kept)
    assert one.read(other.issue(ADA)) == ADA
    for _ in range(20):
        rotate(database, kept)
        assert one.read(other.issue(ADA)) == ADA
        assert other.read(one.issue(ADA)) == ADA


def test_only_the_owner_can_read_the_stored_key(database: Database, kept: Settings) -> None:
    rotate(database, kept)
    assert stat.S_IMODE(Secrets(kept).token_keys.path.stat().st_mode) == 0o600
    assert sorted(path.name for path in Secrets(kept).token_keys.path.parent.iterdir()) == ["jwt_secret"]


def test_a_rotation_is_recorded_as_an_act_of_the_bank(database: Database, kept: Settings) -> None:
    rotate(database, kept)
    rotate(database, kept, at_once=True)
    entries = rows(database, "SELECT author_id, action, details, address FROM audit_entries ORDER BY id")
    assert [entry.pop("details") for entry in entries] == [
        '{"version": 2, "older_for_seconds": 900}',
        '{"version": 3, "older_for_seconds": 0}',
    ]
    assert entries == [{"author_id": 1, "action": "token_keys_rotated", "address": None}] * 2


def test_a_rotation_that_cannot_be_recorded_changes_nothing(
    database: Database, kept: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = TokenKeys(Secrets(kept)).ring().keys

    def fails(*_: object, **__: object) -> None:
        raise Unavailable

    monkeypatch.setattr(service, "write_down", fails)
    with pytest.raises(Unavailable):
        rotate(database, kept)
    assert TokenKeys(Secrets(kept)).ring().keys == before


def test_a_rotation_that_cannot_be_stored_is_not_recorded(
    database: Database, kept: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = TokenKeys(Secrets(kept)).ring().keys

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "replace", fails)
    with pytest.raises(
        SettingsError, match=r"cannot write .*jwt_secret \(No space left on device\); nothing was changed"
    ):
        rotate(database, kept)
    assert TokenKeys(Secrets(kept)).ring().keys == before
    assert rows(database, "SELECT id FROM audit_entries") == []


def test_concurrent_rotations_are_all_kept(database: Database, kept: Settings) -> None:
    TokenKeys(Secrets(kept))

    def rotates(_: int) -> int:
        own = Database(kept)
        try:
            return rotate(own, kept).signing.version
        finally:
            own.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(rotates, range(8))) == list(range(2, 10))
    assert [key.version for key in TokenKeys(Secrets(kept)).ring().keys] == list(range(9, 0, -1))


def test_a_stored_secret_with_a_comma_is_rotated_only_at_once(database: Database, kept: Settings) -> None:
    Secrets(kept).token_keys.path.parent.mkdir(parents=True, exist_ok=True)
    Secrets(kept).token_keys.path.write_text(f"{ONE},{TWO}")
    with pytest.raises(SettingsError, match="a secret with a comma"):
        rotate(database, kept)
    assert Secrets(kept).token_keys.path.read_text() == f"{ONE},{TWO}"
    assert [key.version for key in rotate(database, kept, at_once=True).keys] == [2]


def test_keys_from_a_setting_are_not_rotated_here(database: Database, settings: Settings) -> None:
    with pytest.raises(SettingsError, match="are a setting"):
        rotate(database, settings)
    assert rows(database, "SELECT id FROM audit_entries") == []


# --- while the service runs --------------------------------------------------------------------------------------


def test_no_valid_token_is_rejected_while_keys_are_rotated(database: Database, kept: Settings) -> None:
    """Each of two processes reads the tokens of both, while a third rotates as fast as it can."""
    one, other = tokens(kept), tokens(kept)
    kids = set()
    with ThreadPoolExecutor(1) as pool:
        rotating = pool.submit(lambda: [rotate(database, kept) for _ in range(40)])
        while not rotating.done():
            for giver, taker in ((one, other), (other, one)):
                token = giver.issue(ADA)
                kids.add(kid_of(token))
                assert taker.read(token) == ADA
                assert giver.read(token) == ADA
        assert len(rotating.result()) == 40
    assert len(kids) > 5


def test_forged_versions_do_not_cause_file_reads(kept: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    process, read = tokens(kept), []
    real = KeptSecret.read
    monkeypatch.setattr(KeptSecret, "read", lambda secret: read.append(secret) or real(secret))
    token = process.issue(ADA)
    for version in range(2, 1000):
        forged = jwt.encode(jwt.decode(token, options={"verify_signature": False}), TWO, headers={"kid": str(version)})
        assert is_refused(process, forged)
    assert read == []
    os.utime(Secrets(kept).token_keys.path)
    assert is_refused(process, forged)
    assert len(read) == 1, "once, because the file may have changed"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text(""),
        lambda path: path.write_bytes(b"\xff" * 40),
        lambda path: path.write_text("2:short,1:short"),
    ],
    ids=["gone", "empty", "no text", "no keys"],
)
def test_a_key_file_that_is_damaged_later_leaves_a_running_process_its_keys(
    kept: Settings, always_looks: None, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object]
) -> None:
    process = tokens(kept)
    before = process.issue(ADA)
    good = Secrets(kept).token_keys.path.read_text()
    spoil(Secrets(kept).token_keys.path)
    assert process.read(before) == process.read(process.issue(ADA)) == ADA
    Secrets(kept).token_keys.path.write_text(f"2:{TWO},1:{good}")
    assert kid_of(process.issue(ADA)) == "2", "as soon as the file is fixed"


# --- the command, and backups ------------------------------------------------------------------------------------


class TestTheCommand:
    def test_rotates_and_names_the_time_until_which_the_older_key_is_accepted(
        self, database: Database, kept: Settings
    ) -> None:
        TokenKeys(Secrets(kept))
        result = giro("keys", "rotate", "tokens")
        assert (result.exit_code, result.stderr) == (0, "")
        assert "token key version 2 signs from now on version 1 is accepted until 20" in everything_said(result)
        assert [key.version for key in TokenKeys(Secrets(kept)).ring().keys] == [2, 1]

    def test_drops_the_older_keys_at_once_on_request(self, database: Database, kept: Settings) -> None:
        TokenKeys(Secrets(kept))
        result = giro("keys", "rotate", "tokens", "--at-once")
        assert (result.exit_code, everything_said(result)) == (0, "token key version 2 signs from now on")

    def test_explains_how_keys_from_a_setting_are_rotated(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("JWT_SECRET", ONE)
        result = giro("keys", "rotate", "tokens")
        assert (result.exit_code, "set it to `2:` and a secret of 32 bytes" in everything_said(result)) == (2, True)
        assert ONE not in everything_said(result)

    def test_lists_the_keys_by_their_fingerprints(self, database: Database, kept: Settings) -> None:
        TokenKeys(Secrets(kept))
        rotate(database, kept)
        said = giro("keys", "list").stdout.split()
        assert said == ["key", "fingerprint", *(word for row in fingerprints(Secrets(kept)).items() for word in row)]
        assert "jwt_secret_2" in said


def test_a_backup_names_every_accepted_key_newest_first(
    database: Database, kept: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    TokenKeys(Secrets(kept))
    first = fingerprints(Secrets(kept))
    assert first.keys() == {"jwt_secret"}
    rotate(database, kept)
    both = fingerprints(Secrets(kept))
    assert list(both) == ["jwt_secret_2", "jwt_secret"]
    assert both["jwt_secret"] == first["jwt_secret"]
    monkeypatch.setattr("core.security.fingerprints.now_us", lambda: now_us() + (LIFE + 100) * 1_000_000)
    assert list(fingerprints(Secrets(kept))) == ["jwt_secret_2"]
