"""Every fault: the n-th read, write, sync, truncation and change of a name fails, for every n of an operation.

`shim` is a small library between Giro and the kernel that makes one call fail. Each of the `operations` prepares a
bank, does one thing with it in its own process, says what it was told, and judges what is left. `trials` does this for
every call. `report` prints the table, and `__main__` is the command.
"""
