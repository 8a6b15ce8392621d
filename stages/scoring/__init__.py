"""Probabilities become scores, votes and tables: for the stages evaluate, ensemble and report."""
