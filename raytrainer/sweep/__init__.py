"""Sweeps: many runs of one config, or of one trainer, by Ray Tune."""
