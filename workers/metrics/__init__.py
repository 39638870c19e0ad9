"""Metrics that workers read from the database and the queue."""
