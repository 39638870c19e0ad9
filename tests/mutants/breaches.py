"""Bugs in the ways back from a breach."""

from tests.mutants.mutant import Mutant

BREACHES = (
    Mutant(
        "one operator enough for a scar",
        "core/services/verification/resealing.py",
        (("if proposal.proposed_by == author.user_id:", "if False:"),),
        ("tests/unit/services/verification/test_resealing.py",),
    ),
    Mutant(
        "a scar although balances are wrong",
        "core/services/verification/resealing.py",
        (("if others := sorted(report.counts.keys() - RESEALABLE):", "if others := []:"),),
        ("tests/unit/services/verification/test_resealing.py",),
    ),
    Mutant(
        "a scar signed by anybody",
        "core/services/verification/scars.py",
        (("scar.public_key == public_key and ", ""), ("has_signed(public_key,", "has_signed(scar.public_key or b'',")),
        ("tests/unit/services/verification/test_resealing.py",),
    ),
    Mutant(
        "every breach covered by an isolation",
        "core/domain/isolation.py",
        (("return breach.rule in BLOCK_RULES and breach.detail in self.known", "return True"),),
        ("tests/unit/services/verification/test_isolating.py",),
    ),
    Mutant(
        "isolated accounts settled",
        "core/services/transfers/settlement.py",
        (
            ("if account.id in unit.isolated:\n            account", "if False:\n            account"),
            ("isolated=isolations.accounts(connection)", "isolated=frozenset()"),
        ),
        ("tests/unit/services/verification/test_isolating.py",),
    ),
)
