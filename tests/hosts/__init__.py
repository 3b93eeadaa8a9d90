"""Hosts with a really booted systemd, each in a network namespace of its own, for tests of the service."""
