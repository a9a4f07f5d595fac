"""PBKDF2 off the event loop, each result computed once: a worker logs in with the same few passwords for ever."""

from __future__ import annotations

import hashlib
import os
from typing import Final

import gevent

from ..auth.scram import salted_password

CACHED: Final = 4096

_cache: dict[bytes, bytes] = {}
_pepper: Final = os.urandom(32)      # so that a cache's key tells nothing of the password


def salted(password: bytes, salt: bytes, iterations: int) -> bytes:
    key = hashlib.blake2b(b"%d:%d:" % (iterations, len(salt)) + salt + password, key=_pepper).digest()
    known = _cache.get(key)
    if known is None:
        known = gevent.get_hub().threadpool.apply(salted_password, (password, salt, iterations))
        if len(_cache) >= CACHED:
            _cache.pop(next(iter(_cache)))
        _cache[key] = known
    return known
