"""Find the experiments that differ from a revision only in the seed of the training."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from dvc.repo import Repo

from stages.experiments.comparison.locks import describe_run
from stages.experiments.comparison.revisions import Revision, read_storage
from stages.runtime.errors import UserError


def pair_seeds(before: Revision, after: Revision) -> dict[int, tuple[Revision, Revision]]:
    """Return {seed: (run, run)} for each seed with which both revisions were run, sorted by seed.

    Raises:
        UserError: the revisions differ only in their seed, or they share fewer than two seeds.
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
    """Return {seed: run} for this revision and the experiments that differ from it only in the seed."""
    wanted, found = describe_run(revision.lock), {revision.settings["seed"]: revision}
    for experiment in experiments:
        with suppress(UserError):  # skip unfinished experiments
            if describe_run(experiment.lock) == wanted:
                found.setdefault(experiment.settings["seed"], experiment)
    return found


def list_experiments() -> Iterator[Revision]:
    """Yield all experiments of all commits, as `dvc exp list --all-commits` does."""
    with Repo() as repo:
        listed = repo.experiments.ls(all_commits=True)
    storage = read_storage()
    for experiments in listed.values():
        for name, commit in experiments:
            yield Revision(name, commit, storage)
