"""What the splitter tells whoever counts. It says it when bytes are passed on, so a dropped answer counts nothing."""

from __future__ import annotations

from typing import Protocol

from .decision import Decision, Upstream


class Observer(Protocol):
    def frontend(self, messages: int) -> None:
        """Messages of the client."""

    def backend(self, messages: int) -> None:
        """Messages of an upstream that the client gets."""

    def text(self, parsed: bool | None) -> None:
        """A Query or Parse with a text, and whether the statistics parser understood it."""

    def decided(self, decision: Decision) -> None:
        """A batch has been sent. What comes of it, `Session` tells when it is answered."""

    def command(self, upstream: Upstream, tag: bytes) -> None:
        """The tag of a CommandComplete, such as ``SELECT 1``; NEITHER: of one that no server has sent."""

    def error(self, severity: str, sqlstate: str) -> None: ...

    def notice(self, severity: str) -> None: ...

    def reasked(self, sqlstate: str) -> None:
        """A replica's answer was void; its batch goes to the primary."""
