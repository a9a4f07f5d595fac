"""Passwords: what a user list holds, and the exchanges of md5 and SCRAM-SHA-256. Sans-I/O; hashlib and hmac only."""
