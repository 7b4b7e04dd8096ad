"""``python -m fnn``: the console script ``fnn``."""

from fnn.cli import main

if __name__ == "__main__":
    main()
