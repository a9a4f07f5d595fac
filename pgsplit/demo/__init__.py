"""The demo: real PostgreSQL servers, pgsplit in front of them, and a small load; the tests use the same servers.

Needs the packages of ``requirements.txt`` beside this file, which pgsplit itself does not.
"""
