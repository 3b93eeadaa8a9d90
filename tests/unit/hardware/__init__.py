"""Tests of the hardware package."""
