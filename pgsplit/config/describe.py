"""The configuration in force as text, without a secret."""

from __future__ import annotations

from typing import Any, Final

import yaml
from pydantic import BaseModel

from .loader import Loaded

MASKED: Final = "***"
SECRET: Final = ("secret", "upstream_secret", "password", "sha256")


def described(loaded: Loaded) -> str:
    """All of it as YAML, secrets masked."""
    return yaml.safe_dump(_plain(loaded.config), sort_keys=False, default_flow_style=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: MASKED if name in SECRET and item else _plain(item) for name, item in value}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
