"""The demo's tasks."""
