"""pgsplit: a PostgreSQL proxy that sends reads to streaming standbys and writes to the primary."""

__version__ = "0.1.0"
