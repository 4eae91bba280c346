"""Plain functions that assemble flows from bijectors and networks."""
