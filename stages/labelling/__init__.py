"""Which labels look wrong: features that never learnt them, probabilities out of fold, a list. For `audit` alone."""
