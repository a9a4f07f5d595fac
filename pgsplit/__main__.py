"""``python -m pgsplit``: the commands of ``pgsplit`` and ``app.py``, in the interpreter that is named."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
