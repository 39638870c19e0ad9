"""The processes of the service: how they start, show that they live, and stop."""
