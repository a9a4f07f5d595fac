"""Upstreams: clusters and their hosts, health and freshness, and connections that are logged in."""
