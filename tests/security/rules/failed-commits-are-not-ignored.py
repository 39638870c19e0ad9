import contextlib


def settle(database, connection, rows, log):
    # ruleid: failed-commits-are-not-ignored
    try:
        connection.commit()
    except Exception:
        pass
    # ruleid: failed-commits-are-not-ignored
    try:
        with unit_of_work(database) as inner:
            inner.execute(rows)
    except OSError:
        return
    # ruleid: failed-commits-are-not-ignored
    with contextlib.suppress(Exception):
        connection.commit()
    # ok: failed-commits-are-not-ignored
    try:
        with unit_of_work(database) as inner:
            inner.execute(rows)
    except OSError as error:
        log.error("commit_failed", error=str(error))
        raise
    # ok: failed-commits-are-not-ignored
    try:
        rows.pop()
    except IndexError:
        pass
