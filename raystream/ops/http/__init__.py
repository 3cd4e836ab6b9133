"""The HTTP API of the jobs of a cluster, and the folder of the pages on top of it."""
