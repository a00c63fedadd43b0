"""The benchmark: this worker beside its peers and beside the limit, in one run. Start with README.md here."""
