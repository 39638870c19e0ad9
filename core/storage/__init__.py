"""The database: opening it, the order of its writers, and all SQL."""
