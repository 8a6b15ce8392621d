"""Turn image files into arrays, once: decoding, resizing, and the packed splits that training reads."""
