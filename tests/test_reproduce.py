"""Several stages at once: which one begins first."""

from networkx import DiGraph

from stages.reproduce import measure_chains


def test_what_the_longest_work_waits_for_begins_first():
    # long and end wait for start; chained waits for input; all are needed by vote
    work = {"start": 1, "input": 5, "long": 9, "chained": 6, "short": 2, "vote": 1}
    needs = [("long", "start"), ("short", "start"), ("chained", "input")]
    graph = DiGraph([*needs, *(("vote", each) for each in ("long", "short", "chained"))])
    chains = measure_chains(graph, work)
    assert chains == {"vote": 1, "long": 10, "chained": 7, "short": 3, "input": 12, "start": 11}
