"""Worker: the built-in tasks, from a config to a trainer and to what it leaves."""
