"""Stateful stream processing on Ray."""
