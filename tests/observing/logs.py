"""Logs as servers write them, for tests."""

from __future__ import annotations

import csv
import io
import json

from pgsplit.classify.classifier import Classifier
from pgsplit.observing.entry import Entry
from pgsplit.observing.formats import Log
from pgsplit.observing.tally import Tally
from pgsplit.observing.watching import Watching

AT = "2026-11-30 13:44:52"


def csv_record(message, *, ms=0, session="6a.1", severity="LOG", detail="", query="", user="u", database="d",
               application="app", columns=26):
    row = [f"{AT}.{ms:03d} UTC", user, database, 106, "127.0.0.1:5", session, 1, "SELECT", f"{AT} UTC", "3/7", 0,
           severity, "00000", message, detail, "", "", "", "", query, "", "", application, "client backend", "", 0]
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(row[:columns])
    # PostgreSQL quotes what is text
    quoted = written.getvalue()
    head = f"{AT}.{ms:03d} UTC,{user},{database},106,127.0.0.1:5,"
    return quoted.replace(head, f'{AT}.{ms:03d} UTC,"{user}","{database}",106,"127.0.0.1:5",', 1)


def json_record(message, *, ms=0, session="6a.1", severity="LOG", detail="", query="", user="u", database="d",
                application="app"):
    found = {"timestamp": f"{AT}.{ms:03d} UTC", "user": user, "dbname": database, "pid": 106, "session_id": session,
             "error_severity": severity, "message": message, "detail": detail, "statement": query,
             "application_name": application}
    return json.dumps({name: value for name, value in found.items() if value != ""}) + "\n"


def stderr_record(message, *, ms=0, session="106", severity="LOG", detail="", query="", user="u", database="d",
                  application="app"):
    def line(severity, text):
        head = f"{AT}.{ms:03d} UTC [{session}] {user}@{database}/{application} {severity}:  "
        return head + text.replace("\n", "\n\t") + "\n"

    return (line(severity, message) + (line("DETAIL", detail) if detail else "")
            + (line("STATEMENT", query) if query else ""))


PREFIX = "%m [%p] %q%u@%d/%a "


def read(text, format_="", prefix=None):
    return list(Log(text.splitlines(keepends=True), format_, prefix))


def watched(*entries, tells_sessions=True):
    """*entries*: (session, message) or (session, message, ms since the start), or Entry."""
    tally = Tally()
    classifier = Classifier(1000, 65536)
    watching = Watching(tally, lambda sql, database: classifier(sql), tells_sessions=tells_sessions)
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, Entry):
            session, message, *ms = entry
            severity = "ERROR" if message.startswith("error") else "LOG"
            entry = Entry(number, session, severity, message, time=ms[0] if ms else None, user="u",
                          database="d", application="a", query="…" if severity == "ERROR" else "")
        watching.take(entry)
    return watching
