"""The tasks of this example."""
