"""Applications of other frameworks, to be served directly and through the queue."""
