"""Drivers' own test-suites, directly and through pgsplit (G1): the same tests pass. `./run conformance` runs them."""
