"""The share of an application's reads that replicas serve, as the servers count it: ``./run offload``."""
