"""Stored pixel values: how they lie in pixel data, and frames read a few at a time."""
