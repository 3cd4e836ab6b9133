"""Operating a job: the command line and what it shows."""
