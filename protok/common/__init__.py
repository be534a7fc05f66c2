"""What knows no proteins: settings, files, processes, training loops."""
