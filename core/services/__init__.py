"""The use cases. Functions that write are plain functions that run inside one unit of work."""
