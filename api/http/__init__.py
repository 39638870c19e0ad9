"""One request: its checks and their order, its body and its headers."""
