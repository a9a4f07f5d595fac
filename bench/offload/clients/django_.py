"""Django on psycopg 3: requests of its test client to two views, with ATOMIC_REQUESTS and without."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings
from django.db import connections, models
from django.http import HttpRequest, JsonResponse
from django.urls import path

from bench.offload.clients import Sent, Target, requests, writes

if not settings.configured:
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="not a secret", USE_TZ=True,
                       DATABASES={"default": {"ENGINE": "django.db.backends.postgresql",
                                              "OPTIONS": {"sslmode": "disable"}}})
    django.setup()


class Account(models.Model):
    id = models.IntegerField(primary_key=True)
    owner = models.TextField()
    balance = models.IntegerField()

    class Meta:
        app_label = "bank"
        db_table = "account"


class Entry(models.Model):
    id = models.AutoField(primary_key=True)
    account = models.ForeignKey(Account, models.PROTECT, db_column="account")
    amount = models.IntegerField()

    class Meta:
        app_label = "bank"
        db_table = "entry"


def read(request: HttpRequest, number: int) -> JsonResponse:
    account, entries, count = _reads(number)
    return JsonResponse({"balance": account.balance, "entries": entries, "count": count})


def write(request: HttpRequest, number: int) -> JsonResponse:
    account, _, _ = _reads(number)
    account.balance += 5
    account.save()
    Entry.objects.create(account=account, amount=5)
    return JsonResponse(Entry.objects.filter(account=number).aggregate(models.Sum("amount")))


def _reads(number: int) -> tuple[Any, list[int], int]:
    entries = Entry.objects.filter(account=number)
    return (Account.objects.get(id=number), [entry.amount for entry in entries.order_by("-id")[:10]], entries.count())


urlpatterns = [path("read/<int:number>", read), path("write/<int:number>", write)]


def atomic_requests(target: Target, rounds: int) -> Sent:
    _run(target, rounds, atomic=True)
    return Sent(3 * rounds, writes(rounds))


def no_atomic_requests(target: Target, rounds: int) -> Sent:
    """Autocommit; only what Django itself makes a transaction of (none here) is one."""
    _run(target, rounds, atomic=False)
    return Sent(3 * rounds + writes(rounds))


def _run(target: Target, rounds: int, *, atomic: bool) -> None:
    from django.test import Client

    connection = connections["default"]
    connection.settings_dict.update(
        HOST=target.host, PORT=target.port, USER=target.user, PASSWORD=target.password, NAME=target.dbname,
        ATOMIC_REQUESTS=atomic)
    client = Client()
    try:
        for account, writing in requests(rounds):
            answer = client.post(f"/write/{account}") if writing else client.get(f"/read/{account}")
            answer.json()
    finally:
        connection.close()
