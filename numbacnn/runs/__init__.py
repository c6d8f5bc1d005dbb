"""Runs: what a training was asked to do, its folder, its provenance, and how it is verified."""
