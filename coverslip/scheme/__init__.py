"""The scheme: carriers, quantiser, address, dither, votes; the numpy reference of all runtimes."""
