"""Decoders, each against a plain slow twin."""
