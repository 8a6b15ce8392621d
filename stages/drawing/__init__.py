"""How a flower is drawn: from a species and a seed to a picture, the same on every processor. For the stage `draw`."""
