"""The rules of the bank, as pure functions: no database, no clock, no queue, standard library only."""
