"""Driver: what a run is, written down. Imports neither torch nor Ray nor transformers."""
