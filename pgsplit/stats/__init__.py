"""Counters and histograms: plain ints, one table of names. Sans-I/O."""
