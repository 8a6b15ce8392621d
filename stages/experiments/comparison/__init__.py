"""Two revisions: read, matched picture by picture, and written about. `compare` is the command."""
