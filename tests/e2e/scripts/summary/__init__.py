"""A package whose module ``train`` is run with ``python -m``."""
