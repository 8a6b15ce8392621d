"""When not to answer: unlike pictures, sets of classes, and unsure answers."""
