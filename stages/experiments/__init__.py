"""What a person runs around the pipeline: where to begin, and what a sweep has shown. No stage imports it."""
