"""Configurations of PgBouncer and pgpool-II, made into one of pgsplit's.

`pgbouncer` and `pgpool` read one each into a `Draft`; `writer` writes that as the short form, with a comment for each
setting of the source. What a setting becomes, or why it means nothing here, stands in the tables `pgbouncer_rules` and
`pgpool_rules`. No input or output: whoever calls gives the texts.
"""
