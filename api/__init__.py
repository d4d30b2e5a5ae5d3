"""HTTP and pages: parses, calls one service function, answers."""
