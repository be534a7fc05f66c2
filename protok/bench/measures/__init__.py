"""How it is measured: probes, scores, and measures that need no training."""
