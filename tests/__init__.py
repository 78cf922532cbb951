"""Tidegate's tests; shared parts (the real broker) are packages in here."""
