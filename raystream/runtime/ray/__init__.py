"""The Ray shell: the only importers of ray."""
