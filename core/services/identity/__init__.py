"""People: customers and operators, their log-ins, and their erasure."""
