"""Progressive quantization decided by one experiment: registration, runs, analysis."""
