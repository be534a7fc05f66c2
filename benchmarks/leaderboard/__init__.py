"""What codes say of residues, on tables of labels."""
