"""The fronts: bytes in, status out. No rule of the business lives here."""
