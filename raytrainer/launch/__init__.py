"""Driver: how a command of the command line does its work."""
