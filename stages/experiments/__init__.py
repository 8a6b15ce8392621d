"""Commands around the pipeline: range test, table of a sweep, comparison of revisions. No stage imports them."""
