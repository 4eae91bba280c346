"""How fast a served flow answers."""
