"""What pgsplit would take off a primary, from what its server has logged or counted: no proxy, no I/O."""
