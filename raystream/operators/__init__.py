"""One file per operator: a frozen spec that prints itself, and the operator."""
