"""Labelled structures: a tidy folder, the official release, the bundled mini set."""
