"""The wire: connections, their limits, and what happens around every request."""
