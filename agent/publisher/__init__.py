"""The publisher: what is sent when, what an answer means, and what is tried again."""
