"""A network: built, started, placed on a device, fed with batches, kept in a file. For `training`, train, evaluate."""
