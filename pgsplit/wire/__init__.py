"""The PostgreSQL wire protocol 3.x as bytes in and values out (PostgreSQL manual, chapter 55)."""
