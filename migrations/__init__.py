"""The schema's history; each version is applied once, in order."""
