"""The scheme: carriers, quantiser, address, dither, votes. numpy only, float64, the reference for
every runtime.
"""
