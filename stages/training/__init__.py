"""Train a network so that the training can be stopped at any moment: for the stage `train`."""
