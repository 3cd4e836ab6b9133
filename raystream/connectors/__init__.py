"""One module per system to read from or write to."""
