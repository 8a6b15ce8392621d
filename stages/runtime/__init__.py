"""What every process needs: an orderly end, complete files, hashes of code, pools of workers. Used by all rooms."""
