"""The content of a parameter file as frozen types, and its reader: for every stage that has parameters."""
