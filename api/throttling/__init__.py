"""Rates of requests, and delays after failed guesses."""
