"""Read two revisions, match them picture by picture, and describe the differences; `compare` is the command."""
