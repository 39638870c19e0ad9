"""Statements: making them for closed months, and reading them."""
