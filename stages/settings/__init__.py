"""What a parameter file may say, as frozen types, and its reader: for every stage that has parameters."""
