"""The shells that execute the machines' effects: one process, or Ray actors."""
