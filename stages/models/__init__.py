"""A file per architecture: its `Arguments` (keys of a model's block) and `build_model`; found by name at run time."""
