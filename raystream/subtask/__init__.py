"""The machine of one subtask: input, watermarks, credit, chain; no threads, no I/O."""
