"""Keys and the seal: X25519, HPKE (RFC 9180)."""
