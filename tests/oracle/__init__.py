"""A slow, obvious second opinion: keeps every span, and computes what a boundary should know from nothing
but these."""
