"""What protok is measured with: commands that write result files, and pages made from these."""
