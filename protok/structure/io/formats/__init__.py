"""Bytes of one format to a table of residues."""
