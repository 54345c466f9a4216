"""How items become features: encoded, inverted, fused."""
