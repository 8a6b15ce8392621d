"""Turn a folder of images into a table with classes, groups of copies and splits, for the stage `split`."""
