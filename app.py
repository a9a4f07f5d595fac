#!/usr/bin/env python3
"""pgsplit's command line; `python app.py --help` lists the commands."""

import sys

from pgsplit.cli import main

if __name__ == "__main__":
    sys.exit(main())
