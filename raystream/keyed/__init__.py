"""State inside a subtask: key index, accumulators, partial tables; no Ray, no I/O."""
