"""Arbiter and workers, the sockets and channels between them. The only floor that reads files."""
