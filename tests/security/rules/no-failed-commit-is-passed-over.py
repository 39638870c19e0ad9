import contextlib


def settle(database, connection, rows, log):
    # ruleid: no-failed-commit-is-passed-over
    try:
        connection.commit()
    except Exception:
        pass
    # ruleid: no-failed-commit-is-passed-over
    try:
        with unit_of_work(database) as inner:
            inner.execute(rows)
    except OSError:
        return
    # ruleid: no-failed-commit-is-passed-over
    with contextlib.suppress(Exception):
        connection.commit()
    # ok: no-failed-commit-is-passed-over
    try:
        with unit_of_work(database) as inner:
            inner.execute(rows)
    except OSError as error:
        log.error("commit_failed", error=str(error))
        raise
    # ok: no-failed-commit-is-passed-over
    try:
        rows.pop()
    except IndexError:
        pass
