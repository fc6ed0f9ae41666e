"""The chapters of the report, each a function from its options to a `Chapter`."""
