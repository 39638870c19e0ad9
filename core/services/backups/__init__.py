"""Backups: making and restoring them."""
