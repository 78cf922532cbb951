"""What it means: policy, windows, evidence, score, level. Pure: told the time, does no I/O."""
