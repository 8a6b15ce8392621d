"""Build a network, load start weights, place it on a device, feed it with batches, save it."""
