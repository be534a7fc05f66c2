"""What several tests use: small models, runs and files."""
