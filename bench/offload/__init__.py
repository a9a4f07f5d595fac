"""The share of an application's reads that replicas serve, as the servers count it; ``python -m bench.offload`` runs it."""
