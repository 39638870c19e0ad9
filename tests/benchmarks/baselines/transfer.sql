-- The ledger of the PostgreSQL baseline: a transfer is one call and one transaction.
CREATE TABLE accounts (
    id uuid PRIMARY KEY,
    owner_id bigint NOT NULL,
    currency text NOT NULL,
    status text NOT NULL,
    balance bigint NOT NULL,
    CHECK (balance >= 0 OR owner_id = 0)
) WITH (fillfactor = 70);  -- room for the next balance on the same page; otherwise hot rows spread over pages

CREATE TABLE transfers (
    id uuid PRIMARY KEY,
    submitted_by bigint NOT NULL,
    idempotency_key text NOT NULL,
    from_account_id uuid NOT NULL REFERENCES accounts,
    to_account_id uuid NOT NULL REFERENCES accounts,
    amount bigint NOT NULL CHECK (amount > 0),
    status text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (submitted_by, idempotency_key)
);

CREATE TABLE transactions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transfer_id uuid NOT NULL REFERENCES transfers,
    account_id uuid NOT NULL REFERENCES accounts,
    amount bigint NOT NULL,
    balance_after bigint NOT NULL
);

-- Returns the transfer of this key, perhaps from an earlier request; raises a code if it is not allowed.
CREATE FUNCTION transfer(new_id uuid, by_user bigint, key text, source uuid, destination uuid, moved bigint)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    known uuid;
    side accounts;
    payer accounts;
    payee accounts;
BEGIN
    SELECT id INTO known FROM transfers WHERE submitted_by = by_user AND idempotency_key = key;
    IF FOUND THEN RETURN known; END IF;
    IF source = destination THEN RAISE EXCEPTION 'same_account'; END IF;
    FOR side IN SELECT * FROM accounts WHERE id IN (source, destination) ORDER BY id FOR NO KEY UPDATE LOOP
        IF side.id = source THEN payer := side; ELSE payee := side; END IF;
    END LOOP;
    IF payer.id IS NULL OR payee.id IS NULL OR payer.owner_id <> by_user THEN
        RAISE EXCEPTION 'account_not_found';
    END IF;
    IF payer.currency <> payee.currency THEN RAISE EXCEPTION 'currency_mismatch'; END IF;
    IF payer.status <> 'active' OR payee.status <> 'active' THEN RAISE EXCEPTION 'account_frozen'; END IF;
    IF payer.balance < moved THEN RAISE EXCEPTION 'insufficient_funds'; END IF;
    INSERT INTO transfers (id, submitted_by, idempotency_key, from_account_id, to_account_id, amount, status)
        VALUES (new_id, by_user, key, source, destination, moved, 'completed');
    UPDATE accounts SET balance = balance - moved WHERE id = source;
    UPDATE accounts SET balance = balance + moved WHERE id = destination;
    INSERT INTO transactions (transfer_id, account_id, amount, balance_after)
        VALUES (new_id, source, -moved, payer.balance - moved), (new_id, destination, moved, payee.balance + moved);
    RETURN new_id;
END $$;
