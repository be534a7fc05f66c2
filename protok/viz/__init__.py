"""Pictures and pages: structures coloured by their codes, atlases of codes, curves."""
