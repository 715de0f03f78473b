"""Every module here is imported by the worker."""
