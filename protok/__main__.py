"""`python -m protok`: the command line."""

import sys

from protok.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
