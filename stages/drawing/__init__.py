"""Draw flowers: from a species and a seed to a picture, the same on every processor. Used by the stage `draw`."""
