"""Cards, and the keys that seal their numbers."""
