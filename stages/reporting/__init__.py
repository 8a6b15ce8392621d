"""Scores become what people read: a table, sentences, curves and a page. For the stage report and the terminal."""
