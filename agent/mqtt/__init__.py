"""MQTT: the way out to a broker, and a subscriber that misses nothing."""
