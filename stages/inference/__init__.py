"""Trained models answer, alone or as a vote: for pictures of any number, or as one graph. For what people use."""
