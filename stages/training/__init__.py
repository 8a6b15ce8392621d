"""A network learns, and can be stopped at any moment. For the stage `train`."""
