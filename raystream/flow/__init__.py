"""What flows between subtasks, as immutable values; no Ray, no I/O, no clock."""
