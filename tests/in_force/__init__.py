"""What operators put in force, through the partition's own log."""
