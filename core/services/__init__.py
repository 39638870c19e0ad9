"""The use cases. What writes is a plain function that runs inside one unit of work."""
