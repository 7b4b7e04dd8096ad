"""Runs that are killed again and again, and what must have become of them: ``python -m tests.faults``."""
