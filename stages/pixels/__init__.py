"""Image files become arrays, once: decoding, resizing, and the packed splits that training reads. For all above it."""
