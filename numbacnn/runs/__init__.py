"""Training runs: their settings, folders, provenance and verification."""
