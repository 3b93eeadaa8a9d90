"""Faults made on purpose, and the accounts that show what became of every message: `python -m tests.faults`."""
