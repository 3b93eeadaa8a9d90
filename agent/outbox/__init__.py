"""The outbox: messages committed to disk before they are sent, kept until they are confirmed, accounted for always."""
