"""Each file wraps one foreign thing and turns its failures into ours; io files do not know each other."""
