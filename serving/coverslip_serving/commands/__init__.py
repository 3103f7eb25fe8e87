"""Commands of the command line that this package adds."""
