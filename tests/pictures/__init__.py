"""The pictures in docs/pictures, made from real runs: `make pictures`."""
