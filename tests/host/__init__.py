"""The host reporter, and the `terminate` that follows from what it says."""
