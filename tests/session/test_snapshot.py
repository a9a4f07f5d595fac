"""What others are shown of a session."""

from __future__ import annotations

import pytest

from pgsplit.session.snapshot import shown


@pytest.mark.parametrize(("name", "on_pages"), [
    (b"app", "app"), ("caf\u00e9".encode(), "caf\u00e9"), (b"caf\xe9 \xff", "caf\ufffd \ufffd"),
    (b"\xed\xa0\x80", "\ufffd" * 3)])
def test_a_name_that_a_client_sent_can_be_written_on_a_page(name, on_pages):
    assert shown(name.decode(errors="surrogateescape")) == on_pages
