"""A folder of images becomes a table of images, with their classes, groups of copies and splits: for `split` alone."""
