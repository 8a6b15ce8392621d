"""Check that the committed results belong to the committed code and parameters.

It checks that dvc.lock matches the code, params.yaml and every committed result, that params.yaml is the default
recipe, and that the README has the table of the committed metrics and their sentence about the ensemble. It runs no
stage, and ignores missing files in data/, because a fresh clone does not have them.
"""

import json
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from stages.reporting.scores import read_scores  # noqa: E402
from stages.reporting.sentences import vote_in_words  # noqa: E402
from stages.show import render_markdown  # noqa: E402


def stale_entries() -> list[str]:
    """Return the changes that `dvc status` finds for the report, except data that a fresh clone lacks."""
    command = [sys.executable, "-m", "dvc", "status", "--json", "--with-deps", "report"]
    status = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout)
    problems = []
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):
                problems.append(f"{stage}: {change}")
                continue
            for kind, paths in change.items():
                problems += [f"{stage}: {kind}: {path}: {how}" for path, how in paths.items() if not _absent(path, how)]
    return problems


def _absent(path: str, how: object) -> bool:
    return how in ("deleted", "not in cache") and path.startswith("data/") and not (ROOT / path).exists()


def broken_links() -> list[str]:
    """Return the stages that ran on another version of a file than the one that an earlier stage wrote."""
    locks = [ROOT / "dvc.lock", *ROOT.glob("data/*/dvc.lock"), *ROOT.glob("data/*/*/dvc.lock")]
    stages = [
        (f"{lock.relative_to(ROOT)}:{name}", stage)
        for lock in locks
        for name, stage in yaml.safe_load(lock.read_bytes())["stages"].items()
    ]
    written = {out["path"]: out["md5"] for _, stage in stages for out in stage.get("outs", [])}
    return [
        f"{name}: ran on another version of {dep['path']}"
        for name, stage in stages
        for dep in stage.get("deps", [])
        if written.get(dep["path"], dep["md5"]) != dep["md5"]
    ]


def missing_from_readme() -> list[str]:
    """Return the parts of the README that differ from `python -m stages.show --markdown`, ignoring line breaks."""
    scores = read_scores(ROOT / "metrics")
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    parts = {"the table": render_markdown(scores), "the sentence on the vote": vote_in_words(scores)}
    remedy = "paste the output of `python -m stages.show --markdown`"
    return [
        f"README.md: {what} is not that of the committed metrics; {remedy}"
        for what, text in parts.items()
        if " ".join(text.split()) not in readme
    ]


def differs_from_default() -> list[str]:
    """Return a problem if params.yaml differs from recipes/default.yaml."""
    same = (ROOT / "params.yaml").read_bytes() == (ROOT / "recipes" / "default.yaml").read_bytes()
    return [] if same else ["params.yaml: differs from recipes/default.yaml, its copy; copy it again"]


def main() -> None:
    problems = stale_entries() + broken_links() + missing_from_readme() + differs_from_default()
    for problem in problems:
        print(f"stale: {problem}")
    if problems:
        sys.exit("the committed results do not match the code; run `make repro` and commit dvc.lock and metrics/")
    print("dvc.lock matches code, parameters and metrics; the README says what the metrics say")


if __name__ == "__main__":
    main()
