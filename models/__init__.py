"""Pure torch: generators, heads, students, losses, metrics."""
