"""Statements that SQLite needs in its own words. Every other engine has its own under the same names."""

TRANSFERS_BY_KEYS = """
    SELECT t.idempotency_key, t.submitted_by, t.fingerprint, t.public_id, t.id, t.kind, payer.public_id,
        payee.public_id, t.amount, t.currency, t.description, t.created_at, t.answer_version, t.request_id
    FROM (VALUES :keys**) wanted
    CROSS JOIN transfers t ON t.idempotency_key = wanted.column1 AND t.submitted_by = wanted.column2
    JOIN accounts payer ON payer.id = t.from_account_id JOIN accounts payee ON payee.id = t.to_account_id
"""
"""The transfers of `keys`: each an idempotency key and the row id of the user whose key it is. The columns are the key,
the user, the fingerprint, and those of `AcceptedTransfer`. The list is read first, and each key is looked up."""
