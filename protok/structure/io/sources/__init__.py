"""Where the bytes of structures come from: files, folders, archives, databases."""
