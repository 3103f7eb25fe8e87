"""Coverslip hides a patient's identity in the background of a medical image and gives it back to
the holder of the key.

Importing this package loads nothing heavy. Start at `coverslip.pipeline` for the main job,
`coverslip.crypto.keys` for keys.
"""

__version__ = "0.1.0"
