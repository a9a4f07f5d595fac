"""The user lists as the arbiter edits them for who asks by name: nobody else is given a secret."""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..auth import scram
from ..auth.secret import Kind, md5_secret, parse, verifier_text
from ..config.loader import Loaded
from ..config.user_file import CannotEdit, Change, edited, masked, users_at
from ..errors import PgSplitError
from . import files

KINDS: Final = {Kind.CLEAR: "clear", Kind.MD5: "md5", Kind.SCRAM: "scram", Kind.CERT: "cert"}
MOST: Final = 5000              # changes at once
LONGEST: Final = 1000           # characters of a password


class UserLists:
    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def listing(self) -> list[dict[str, Any]]:
        """For each listener its file, the file's version, and the names of the users with the kind of their secret."""
        found = []
        for listener in self._loaded.config.listeners:
            file, path = self._loaded.user_lists.get(listener.name, ("", ()))
            problem, version = "", ""
            try:
                text = files.read_exactly(file) if file else ""
                version = version_of(text)
                users_at(text, path)
            except (OSError, UnicodeDecodeError, CannotEdit) as error:
                problem = f"{file}: {getattr(error, 'strerror', None) or error}" if file else "has no list of users"
            found.append({"listener": listener.name, "file": file, "version": version, "problem": problem,
                          "auth_user": listener.auth_user if listener.split_rw else "",
                          "users": [{"name": user.username, "stored": KINDS[parse(user.secret).kind],
                                     "monitor": user.username == self._loaded.config.monitor.username}
                                    for user in listener.users]})
        return found

    def edit(self, listener: str, version: str, changes: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
        """The file's name, its new text, and the difference, secrets masked.

        :raises PgSplitError: when the file has changed since *version*, or a change cannot be made.
        """
        if listener not in self._loaded.user_lists:
            raise PgSplitError(f"there is no listener {listener!r} with a list of users")
        file, path = self._loaded.user_lists[listener]
        try:
            old = files.read_exactly(file)
        except (OSError, UnicodeDecodeError) as error:
            raise PgSplitError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
        if version_of(old) != version:
            raise PgSplitError(f"{file} has changed meanwhile: load the list again")
        if not isinstance(changes, list) or not 0 < len(changes) <= MOST:
            raise PgSplitError(f"from 1 to {MOST} changes can be made at once")
        new = edited(old, path, [_change(change) for change in changes])
        paths = [place for name, place in self._loaded.user_lists.values() if name == file]
        before, after = masked(old, paths, old), masked(new, paths, old)
        diff = difflib.unified_diff(before.splitlines(), after.splitlines(), file, file, n=0, lineterm="")
        return file, new, "\n".join(diff)


def version_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _change(given: Mapping[str, Any]) -> Change:
    """:raises PgSplitError: saying what is wrong with it."""
    name, action = given.get("name"), given.get("action", "set")
    if not isinstance(name, str) or not 0 < len(name) <= 63 or not name.isprintable():
        raise PgSplitError("a user's name has from 1 to 63 printable characters")
    if action == "delete":
        return Change(name, None)
    password, stored = given.get("password"), given.get("stored", "scram")
    if action != "set" or not isinstance(password, str) or not 0 < len(password) <= LONGEST or "\0" in password:
        raise PgSplitError(f"{name}: a password has from 1 to {LONGEST} characters")
    return Change(name, _secret(name, password, str(stored), given))


def _secret(name: str, password: str, stored: str, given: Mapping[str, Any]) -> str:
    if stored == "clear":
        if parse(password).kind is not Kind.CLEAR:
            raise PgSplitError(f"{name}: this password looks like a hash; as such it can be stored, not as a password")
        return password
    if stored == "hash":
        if parse(password).kind not in (Kind.MD5, Kind.SCRAM):
            raise PgSplitError(f"{name}: is neither an md5 hash nor a SCRAM-SHA-256 verifier")
        return password
    if stored == "md5":
        return md5_secret(password, name)
    if stored != "scram":
        raise PgSplitError("stored is one of scram, md5, clear, hash")
    try:
        salt, iterations = base64.b64decode(given["salt"], validate=True), int(given["iterations"])
        if not salt or not 0 < iterations <= 1_000_000:
            raise ValueError
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise PgSplitError(f"{name}: a verifier needs the salt and the iterations that the server has for the user"
                           ) from None
    salted = scram.salted_password(scram.normalise(password), salt, iterations)
    return verifier_text(scram.verifier_of(scram.keys_of(salted, salt, iterations)))
