"""`python -m core.cli`: the command `giro`, run by the current interpreter."""

from core.cli import main

if __name__ == "__main__":
    main()
