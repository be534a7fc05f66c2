"""Quantizers and curricula side by side, and priors over codes."""
