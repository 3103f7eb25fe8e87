"""Stored pixel values: their layout in pixel data, decoding, and frames read a few at a time."""
