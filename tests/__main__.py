"""All tests in three parts at the same time, for they wait as much as they work; or, where one is asked for, that.

Each part is a pytest with a primary and a standby of its own, and each of its lines begins with its number.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, Final

from tests import room
from tests.conftest import PARTS

HOW: Final = ("-q", "-v", "-vv", "-ra", "-x", "--durations=", "--durations-min=", "--maxfail=", "--tb=")   # not which
NO_TESTS: Final = 5             # pytest's exit code


def main(arguments: Sequence[str]) -> int:
    with room.in_memory():
        return run(arguments)


def run(arguments: Sequence[str]) -> int:
    if not asks_for_all(arguments):
        return subprocess.call(command(*arguments))
    lock = threading.Lock()
    processes = [subprocess.Popen(command("--part", part, *arguments), stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT) for part in PARTS]
    tellers = [threading.Thread(target=tell, args=(part, process.stdout, lock), daemon=True)
               for part, process in zip(PARTS, processes, strict=True)]
    for teller in tellers:
        teller.start()
    codes = [wait(process) for process in processes]
    for teller in tellers:
        teller.join()
    return worst(codes)


def asks_for_all(arguments: Sequence[str]) -> bool:
    """Whether all tests, or all with a mark, are to be run, in no other way than usual."""
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument == "-m" and left:
            left.pop(0)
        elif argument not in HOW and not any(argument.startswith(name) for name in HOW if name.endswith("=")):
            return False
    return True


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", *arguments]


def tell(part: str, lines: IO[bytes] | None, lock: threading.Lock) -> None:
    assert lines is not None
    for line in lines:
        with lock:
            sys.stdout.buffer.write(part.encode() + b" " + line)
            sys.stdout.buffer.flush()


def wait(process: subprocess.Popen[bytes]) -> int:
    """Ctrl-C reaches them as well, and each ends with what it has to clean up."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def worst(codes: Sequence[int]) -> int:
    """The exit code of the whole: a part in which there was nothing to do is not a failure."""
    failed = [code for code in codes if code not in (os.EX_OK, NO_TESTS)]
    return abs(failed[0]) if failed else min(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
