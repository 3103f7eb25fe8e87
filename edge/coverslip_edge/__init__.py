"""Coverslip on a console: the released model on LiteRT, without TensorFlow."""
