"""One structure: hold it, read it, measure it."""
