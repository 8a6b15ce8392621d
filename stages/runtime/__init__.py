"""What every stage's process needs, whatever it computes: an orderly end, and files written whole. For all rooms."""
