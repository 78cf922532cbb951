"""Whole incidents, undisturbed and disturbed in every way the design names: the same decisions, byte for
byte."""
