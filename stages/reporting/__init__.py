"""Turn results into figures, tables, sentences and pages. All figures of the stages are drawn here."""
