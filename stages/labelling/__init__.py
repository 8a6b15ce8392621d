"""Find labels that look wrong: label-free features, out-of-fold probabilities, a ranked list. Used only by `audit`."""
