"""The nemesis: inject every kind of fault into a real service under load, then check the money.

`plan` derives the faults and their times from a seed. `nemesis` injects them. Meanwhile `clients` submit, retry and
read, and record what they see (`history`). `model` is a separate ledger, far simpler than the real one. `checks`
compare the real ledger with the model and with the history. `run` is one run from start to verdict, `report` prints
its table, and `__main__` is the long form.
"""
