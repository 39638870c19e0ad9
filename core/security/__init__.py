"""Passwords, tokens, and the keys that seal, sign and derive."""
