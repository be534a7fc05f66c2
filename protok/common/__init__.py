"""The ground floor: settings, files, processes, training loops. Knows no proteins."""
