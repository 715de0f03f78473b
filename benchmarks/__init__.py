"""Benchmarks: real server and worker processes, one JSON line a scenario and database. Quote ratios of one run, not figures of two."""
