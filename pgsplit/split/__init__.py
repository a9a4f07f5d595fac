"""The product: what goes to a replica and what to the primary, and why. Sans-I/O."""
