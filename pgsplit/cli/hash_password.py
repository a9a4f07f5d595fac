"""`app.py hash-password`: what the configuration of the admin page holds in a password's, or a token's, place."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import secrets
import sys

from ..errors import PgSplitError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token", action="store_true",
                        help="make a bearer token for /api and /metrics instead: print it, and its SHA-256")


def run(args: argparse.Namespace) -> int:
    if args.token:
        token = secrets.token_urlsafe(32)
        print(f"token:  {token}\nsha256: {hashlib.sha256(token.encode()).hexdigest()}")
        return 0
    print(hashed(_password()))
    return 0


def hashed(password: str) -> str:
    """By werkzeug's scrypt. :raises PgSplitError: for an empty one."""
    from werkzeug.security import generate_password_hash

    if not password:
        raise PgSplitError("an empty password is none")
    return generate_password_hash(password)


def _password() -> str:
    """From the terminal, twice and unseen; else the first line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise PgSplitError("the two are not the same")
    return password
