"""The identity out of a header and back: PS3.15's Basic Profile, and what it took."""
