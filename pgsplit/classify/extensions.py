"""Extensions whose functions are known: in C, so that no body can be looked through.

By their documentation (PostgreSQL manual, appendix F; the projects' own): those that are immutable or stable read
nothing but their arguments, tables and the session's settings, but for the exceptions.
"""

from __future__ import annotations

from typing import Final

_KNOWN: Final = frozenset([
    "btree_gin", "btree_gist", "citext", "cube", "earthdistance", "fuzzystrmatch", "hstore", "intarray", "isn", "ltree",
    "pg_trgm", "pgcrypto", "postgis", "postgis_sfcgal", "seg", "unaccent", "uuid-ossp", "vector",
])
# Volatile, and yet the same on a replica: no server can say what they will answer, and nothing else is changed.
_RANDOM: Final = {
    "pgcrypto": frozenset(["gen_random_bytes", "gen_random_uuid", "gen_salt", "pgp_pub_encrypt",
                           "pgp_pub_encrypt_bytea", "pgp_sym_encrypt", "pgp_sym_encrypt_bytea"]),
    "uuid-ossp": frozenset(["uuid_generate_v4"]),
}
# What they answer is the session's own, or a server's: set_limit()'s threshold, a weak mode, libraries' versions.
_LOCAL: Final = frozenset(["isn_weak", "postgis_full_version", "postgis_gdal_version", "postgis_geos_version",
                           "postgis_lib_version", "postgis_libjson_version", "postgis_libxml_version",
                           "postgis_proj_version", "postgis_version", "postgis_wagyu_version", "set_limit",
                           "show_limit", "st_estimatedextent", "postgis_geos_compiled_version",
                           "postgis_proj_compiled_version", "postgis_liblwgeom_version", "postgis_lib_revision",
                           "postgis_lib_build_date", "postgis_sfcgal_version", "postgis_sfcgal_full_version"])


def harmless_in(extension: str, function: str, volatility: str, *, in_c: bool) -> bool:
    """Whether *function* of *extension* answers on a replica as on the primary, without an effect."""
    if function in _RANDOM.get(extension, ()):
        return True
    return in_c and extension in _KNOWN and volatility in "is" and function not in _LOCAL
