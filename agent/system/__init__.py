"""The agent as a service of systemd: what lies where, for which board, put there and taken away."""
