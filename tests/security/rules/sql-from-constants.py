TABLES = "accounts a"
_COLUMNS = "id, balance"


def read(connection, account_id, name, column, ids):
    # ruleid: sql-from-constants
    connection.exec_driver_sql(f"SELECT * FROM accounts WHERE name = '{name}'")
    # ruleid: sql-from-constants
    connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM {TABLES} ORDER BY {column}")
    # ruleid: sql-from-constants
    connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM {TABLES} WHERE id IN ({','.join(ids)})")
    # ruleid: sql-from-constants
    connection.exec_driver_sql("SELECT * FROM accounts WHERE name = '%s'" % name)
    # ruleid: sql-from-constants
    connection.exec_driver_sql("SELECT * FROM accounts WHERE name = '{}'".format(name))
    # ruleid: sql-from-constants
    connection.exec_driver_sql("SELECT * FROM accounts WHERE name = '" + name + "'")
    # ruleid: sql-from-constants
    query = f"DELETE FROM {name}"
    connection.exec_driver_sql(
        "SELECT id "
        # ruleid: sql-from-constants
        f"FROM {name}"
    )
    marks = ", ".join("?" * len(ids))
    # ok: sql-from-constants
    connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM {TABLES} WHERE id IN ({marks})", tuple(ids))
    # ok: sql-from-constants
    connection.exec_driver_sql(f"SELECT id FROM (VALUES {','.join(['(?, ?)'] * len(ids))})", tuple(ids))
    # ok: sql-from-constants
    connection.exec_driver_sql("SELECT id FROM accounts WHERE name = ?", (name,))
    # ok: sql-from-constants
    print(f"no account {name} to read from")
