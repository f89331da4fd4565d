"""`python -m onlooker` is the command line."""

import sys

from onlooker.cli import main

if __name__ == "__main__":
    sys.exit(main())
