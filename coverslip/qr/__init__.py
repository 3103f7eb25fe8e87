"""The QR symbol that carries a sealed record."""
