"""The nemesis: a real service under clients, with everything done to it that can go wrong, and the money counted after.

`plan` says what happens when, by a seed. `nemesis` does it. `clients` submit, retry and read meanwhile and write down
what they saw (`history`). `model` is a ledger of its own, far simpler than the real one; `checks` hold the real one to
it and to the history. `run` is one run from start to verdict, `report` its table, `__main__` the long form.
"""
