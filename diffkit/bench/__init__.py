"""Speed of a gradient against hand-written NumPy and against the peers that are installed."""
