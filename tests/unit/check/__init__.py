"""Tests of agent/check."""
