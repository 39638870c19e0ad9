"""`python -m core.cli`: the command `giro`, of the interpreter that runs already."""

from core.cli import main

if __name__ == "__main__":
    main()
