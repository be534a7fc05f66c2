"""Pages and model cards made from result files."""
