"""The machine of one job: its lifecycle, from deployment to the last commit."""
