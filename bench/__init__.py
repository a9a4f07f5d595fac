"""Measurements of pgsplit beside other ways to reach PostgreSQL. `./run bench` alone runs `compare`."""
