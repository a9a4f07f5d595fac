"""Who is who: servers, their roles and terms, the monitor, the samples, the catalogues of definitions."""
