"""SQL as PostgreSQL's scanner sees it: tokens, and texts without their literals. Sans-I/O."""
