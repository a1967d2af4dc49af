"""What crosses a wire or a file, as strict pydantic models; each compiles once into core values."""
