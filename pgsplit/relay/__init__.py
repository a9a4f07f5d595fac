"""The relay: legs, flows and what is repeated, in Python and compiled."""
