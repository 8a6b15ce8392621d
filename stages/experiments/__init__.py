"""What a person runs around the pipeline: a range test, a sweep's table, a comparison. No stage imports it."""
