"""What a job remembers, in an object store: chunks of state, manifests, and the log."""
