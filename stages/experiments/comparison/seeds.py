"""Experiments that differ from a revision by the training's seed alone, found among all that DVC lists."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from dvc.repo import Repo

from stages.experiments.comparison.locks import describe_run
from stages.experiments.comparison.revisions import Revision, read_storage
from stages.runtime.errors import UserError


def pair_seeds(before: Revision, after: Revision) -> dict[int, tuple[Revision, Revision]]:
    """Return for each seed under which both were run the two runs, in the order of the seeds.

    Raises:
        UserError: the two differ by their seed alone, or they share fewer than two seeds.
    """
    if describe_run(before.lock) == describe_run(after.lock):
        raise UserError(
            f"--over seed: expected revisions that differ in more than the seed, but {before.name} and {after.name} do "
            "not; `python -m stages.experiments.sweep --param seed` shows the effect of seeds"
        )
    experiments = list(list_experiments())
    ours, theirs = (find_seeds(each, experiments) for each in (before, after))
    shared = sorted(ours.keys() & theirs.keys())
    if len(shared) < 2:
        found = "; ".join(
            f"{run.name}: {', '.join(map(str, sorted(seeds)))}" for run, seeds in ((before, ours), (after, theirs))
        )
        raise UserError(
            f"--over seed: expected at least two seeds that both revisions ran with, found {found}; "
            "run `dvc exp run --queue -S 'seed=1,2,3'` on both revisions"
        )
    return {seed: (ours[seed], theirs[seed]) for seed in shared}


def find_seeds(revision: Revision, experiments: Iterable[Revision]) -> dict[int, Revision]:
    """Return {seed: run} of this revision and of the experiments that differ from it by the seed alone."""
    wanted, found = describe_run(revision.lock), {revision.settings["seed"]: revision}
    for experiment in experiments:
        with suppress(UserError):  # one that was not run whole is no run of this seed
            if describe_run(experiment.lock) == wanted:
                found.setdefault(experiment.settings["seed"], experiment)
    return found


def list_experiments() -> Iterator[Revision]:
    """Yield all experiments, of whatever commit, as `dvc exp list --all-commits` does."""
    with Repo() as repo:
        listed = repo.experiments.ls(all_commits=True)
    storage = read_storage()
    for experiments in listed.values():
        for name, commit in experiments:
            yield Revision(name, commit, storage)
