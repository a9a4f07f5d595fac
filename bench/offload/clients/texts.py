"""What clients that write their own SQL send, with the place-holders of each. Only reads behind a write use sum()."""

from __future__ import annotations

from typing import NamedTuple


class Texts(NamedTuple):
    account: str
    entries: str
    number: str
    insert: str
    update: str
    total: str

    @property
    def reads(self) -> tuple[str, str, str]:
        """Of a request that only reads."""
        return self.account, self.entries, self.number


def texts(one: str, two: str) -> Texts:
    return Texts(
        f"select owner, balance from account where id = {one}",
        f"select id, amount from entry where account = {one} order by id desc limit 10",
        f"select count(*) from entry where account = {one}",
        f"insert into entry (account, amount) values ({one}, {two})",
        f"update account set balance = balance + {one} where id = {two}",
        f"select sum(amount) from entry where account = {one}")


FORMAT = texts("%s", "%s")
NUMBERED = texts("$1", "$2")
