"""Trains and evaluates the network that outlines the body."""
