"""Measurements of pgsplit beside other ways to reach PostgreSQL. `./run bench compare` runs the first one."""
