"""What one does with tokens: search, align, count, make graphs."""
