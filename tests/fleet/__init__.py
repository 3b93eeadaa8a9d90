"""Rollouts by the playbooks of ansible/ to really booted hosts, with every event accounted for."""
