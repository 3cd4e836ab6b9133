"""What users and connectors implement; the engine knows them by these contracts alone."""
