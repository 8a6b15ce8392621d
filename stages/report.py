"""Show all of the metrics on one self-contained page: it opens with no network.

    python -m stages.report METRICS PAGE

The models are those that voted, in the order of the parameters; what else lies in METRICS is not read. The same metrics
give the same bytes: no date and no timing is in the page. METRICS/curves.csv, which `dvc plots` draws, is written, too.
"""

import argparse
import base64
import io
import json
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from PIL import Image

from stages.reporting.curves import AREA, join_histories, plot_training
from stages.reporting.score_table import SCORES, best_models, read_scores
from stages.reporting.sentences import VOTES, compare_in_words, start_in_words, vote_in_words
from stages.runtime.errors import UserError
from stages.runtime.files import write_text
from stages.runtime.process import run_stage
from stages.scoring.confusion import most_confused

TEMPLATE = Path(__file__).parent / "reporting" / "report.html.j2"
N_PAIRS = 15


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """Read a CSV file in which a class may be called "nan", or "007"."""
    return pd.read_csv(path, keep_default_na=False, dtype={"class": str, "actual": str}, **options)


def embed_png(path: Path) -> str:
    """Return the picture as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def embed_photos(path: Path) -> str:
    """Return the sample images as a WebP data URI: a tenth of the PNG's bytes, and still transparent."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def rank_classes(per_class: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """List the classes, the worst first by the ensemble's F1, then by the mean F1 of all models.

    Args:
        per_class: {model: its per_class.csv}, the ensemble among them.
    Returns:
        A dict a class: name, support, f1 ({model: F1}).
    """
    f1 = pd.DataFrame({model: table.set_index("class")["f1"] for model, table in per_class.items()})
    support = per_class["ensemble"].set_index("class")["support"]
    order = sorted(f1.index, key=lambda name: (f1["ensemble"][name], f1.loc[name].sum(), name))
    return [{"name": name, "support": int(support[name]), "f1": f1.loc[name].to_dict()} for name in order]


def gather(metrics: Path) -> dict[str, Any]:
    """Read what the page shows: everything that the template names, and nothing else."""
    scores = read_scores(metrics)
    models = [name for name in scores if name != "ensemble"]
    folders = {name: metrics / "models" / name for name in models} | {"ensemble": metrics / "ensemble"}
    dataset = json.loads((metrics / "dataset.json").read_text(encoding="utf-8"))
    comparison = json.loads((metrics / "comparison.json").read_text(encoding="utf-8"))
    histories = {name: pd.read_csv(folders[name] / "history.csv") for name in models}
    confusion = read_table(folders["ensemble"] / "confusion.csv", index_col="actual")
    return {
        "scores": scores,
        "models": models,
        "score_names": SCORES,
        "start_in_words": start_in_words,
        "vote_names": VOTES,
        "best": best_models(scores),
        "dataset": dataset,
        "vote": vote_in_words(scores),
        "comparison": compare_in_words(scores["ensemble"], comparison),
        "votes": comparison["votes"],
        "histories": histories,
        "training": plot_training(histories, dataset["n_classes"]),
        "plot_area": AREA,
        "classes": rank_classes({name: read_table(folder / "per_class.csv") for name, folder in folders.items()}),
        "pairs": most_confused(confusion, N_PAIRS).to_dict("records"),
        "samples": embed_photos(metrics / "samples.png"),
        "class_counts": embed_png(metrics / "class_counts.png"),
        "confusions": {name: embed_png(folder / "confusion.png") for name, folder in folders.items()},
    }


def render_page(content: dict[str, Any]) -> str:
    """Return the page as HTML.

    Args:
        content: as `gather` returns it.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", type=Path)
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    try:
        content = gather(arguments.metrics)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro report`") from None
    curves = join_histories(content["histories"])
    write_text(arguments.metrics / "curves.csv", curves.to_csv(index=False, lineterminator="\n"))
    write_text(arguments.page, render_page(content))


if __name__ == "__main__":
    run_stage(main)
