"""SQLAlchemy's ORM on psycopg 3: sessions that read, that write what they have read, and that are read only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, ForeignKey, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from bench.offload.clients import Sent, Target, requests, writes


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    balance: Mapped[int]


class Entry(Base):
    __tablename__ = "entry"
    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[int] = mapped_column(ForeignKey("account.id"))
    amount: Mapped[int]


def read_sessions(target: Target, rounds: int) -> Sent:
    return _read(target, rounds, readonly=False)


def read_only_sessions(target: Target, rounds: int) -> Sent:
    return _read(target, rounds, readonly=True)


def _read(target: Target, rounds: int, *, readonly: bool) -> Sent:
    with _sessions(target, **({"postgresql_readonly": True} if readonly else {})) as new_session:
        for account, _ in requests(rounds):
            with new_session() as session:
                _reads(session, account)
    return Sent(3 * rounds)


def read_then_write(target: Target, rounds: int) -> Sent:
    """Each request a session; some change what they have read, and read once more behind it."""
    with _sessions(target) as new_session:
        for number, write in requests(rounds):
            with new_session.begin() as session:
                account = _reads(session, number)
                if write:
                    account.balance += 5
                    session.add(Entry(account=account.id, amount=5))
                    session.scalar(select(func.sum(Entry.amount)).where(Entry.account == account.id))
    return Sent(3 * rounds, writes(rounds))


def _reads(session: Session, number: int) -> Account:
    account = session.get_one(Account, number)
    session.scalars(select(Entry).where(Entry.account == number).order_by(Entry.id.desc()).limit(10)).all()
    session.scalar(select(func.count()).select_from(Entry).where(Entry.account == number))
    return account


@contextmanager
def _sessions(target: Target, **options: bool) -> Iterator[sessionmaker[Session]]:
    url = URL.create("postgresql+psycopg", target.user, target.password, target.host, target.port, target.dbname,
                     {"sslmode": "disable"})
    engine = create_engine(url, execution_options=options)
    try:
        yield sessionmaker(engine)
    finally:
        engine.dispose()
