"""Turn probabilities into scores, intervals, tests and ensembles: pure functions of arrays."""
