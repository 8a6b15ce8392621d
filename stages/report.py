"""Write the report of all results: a self-contained page that works offline, a short version, and a model card.

    python -m stages.report METRICS DATA DEFAULT SOURCE [--params PATH]

Writes into METRICS: report.html; report.md, which CI posts on pull requests; model_card.md, in the format of the
Hugging Face hub; and curves.csv, which `dvc plots` draws. DATA has the predictions for the test images, the images, and
the lists of files. DEFAULT is the recipe that parameters are compared with. SOURCE has the parameters of the models
that fine-tuned models start from.

The models are the members of the ensemble, in the order of the parameters; files of other models in METRICS and DATA
are removed. The same results give the same bytes: the files contain no date and no duration.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from stages.pixels.packed_splits import open_splits
from stages.reporting.curves import AREA, SIDE, join_histories, plot_reliability, plot_selection, plot_training
from stages.reporting.label_issues import read_audit, score_fixes
from stages.reporting.mistakes import Answers, show_attention, show_mistakes, show_pairs
from stages.reporting.model_card import describe_models
from stages.reporting.page import render
from stages.reporting.pictures import embed, encode, thumbnail_sizes
from stages.reporting.provenance import read_parameters, trace
from stages.reporting.scores import best_models, list_scores, pair_up, read_scores
from stages.reporting.sentences import VOTES, compare_in_words, start_in_words, vote_in_words
from stages.runtime.errors import UserError
from stages.runtime.files import remove_leftovers, write_text
from stages.runtime.process import run_stage
from stages.scoring.mistakes import read_attention
from stages.scoring.predictions import read_predictions


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV file whose first column has class names, also names like "nan" or "007"."""
    return pd.read_csv(path, keep_default_na=False, converters={0: str})


def rank_classes(per_class: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Sort the classes by the F1 of the ensemble, lowest first, then by the mean F1 of all models.

    Args:
        per_class: {model: its per_class.csv}, the ensemble among them.
    Returns:
        A dict per class: name, support, f1 ({model: F1}).
    """
    f1 = pd.DataFrame({model: table.set_index("class")["f1"] for model, table in per_class.items()})
    support = per_class["ensemble"].set_index("class")["support"]
    order = sorted(f1.index, key=lambda name: (f1["ensemble"][name], f1.loc[name].sum(), name))
    return [{"name": name, "support": int(support[name]), "f1": f1.loc[name].to_dict()} for name in order]


def read_answers(data: Path, models: list[str], image_size_px: int) -> Answers:
    """Read the answers of the ensemble and its members on the test images, and the images packed for this size."""
    vote = read_predictions(data / "vote.npz")
    members = {name: read_predictions(data / "predictions" / f"{name}.npz").test_probabilities for name in models}
    _, (test,) = open_splits(data / "packed" / str(image_size_px), ["test"])
    return Answers(test.images, vote.test_labels, vote.class_names, {"ensemble": vote.test_probabilities, **members})


def look(answers: Answers, data: Path, scores: dict[str, dict[str, Any]], image_size_px: int) -> dict[str, Any]:
    """Return where the most accurate member with attention maps looked; validation accuracy decides which member."""
    members = sorted((name for name in scores if name != "ensemble"), key=lambda name: -scores[name]["val"]["accuracy"])
    for name in members:
        if maps := read_attention(data / "attention" / f"{name}.npz"):
            return {"looker": name, "attention": show_attention(answers, name, maps, image_size_px)}
    return {"looker": "", "attention": []}


def gather(metrics: Path, data: Path, params: Path, default: Path, source: Path) -> dict[str, Any]:
    """Read everything that the templates of the page need."""
    scores, parameters = read_scores(metrics), read_parameters(params)
    image_size_px = parameters["image_sizes_px"][0]  # all sizes show the same part of a picture
    models = [name for name in scores if name != "ensemble"]
    folders = {name: metrics / "models" / name for name in models} | {"ensemble": metrics / "ensemble"}
    dataset, comparison = (
        json.loads((metrics / f"{name}.json").read_text(encoding="utf-8")) for name in ("dataset", "comparison")
    )
    histories = {name: pd.read_csv(folders[name] / "history.csv") for name in models}
    answers = read_answers(data, models, image_size_px)
    classes, _ = open_splits(data / "packed" / str(image_size_px), [])
    return {
        "scores": scores,
        "models": models,
        "names": ["ensemble", *models],
        "score_names": list_scores(scores),
        "start_in_words": start_in_words,
        "vote_names": VOTES,
        "best": best_models(scores),
        "dataset": dataset,
        "images": parameters["images"],
        "source": read_parameters(source),
        "vote": vote_in_words(scores),
        "verdict": compare_in_words(scores["ensemble"], comparison),
        "comparison": comparison,
        "pairs_of_models": pair_up(comparison["pairs"], ["ensemble", *models]),
        "reliability": plot_reliability(comparison["calibration"]),
        "box": SIDE,
        "selection": plot_selection(comparison["selection"]["curve"]),
        "histories": histories,
        "training": plot_training(histories, dataset["n_classes"]),
        "plot_area": AREA,
        "classes": rank_classes({name: read_table(folder / "per_class.csv") for name, folder in folders.items()}),
        "thumbnails": thumbnail_sizes(answers.images.shape[1]),
        "mistakes": show_mistakes(answers),
        **look(answers, data, scores, image_size_px),
        "pairs": show_pairs(answers),
        "audit": read_audit(metrics, data, dict(zip(classes, answers.class_names, strict=True))),
        "fixed": score_fixes(data, answers.labels, answers.probabilities, classes),
        "confusions": {name: embed((folder / "confusion.png").read_bytes()) for name, folder in folders.items()},
        "samples": encode(Image.open(metrics / "samples.png")),
        "class_counts": embed((metrics / "class_counts.png").read_bytes()),
        "provenance": trace(data, params, default),
    }


def forget_others(metrics: Path, attention: Path, models: list[str]) -> None:
    """Delete the files of models that are no longer in the parameters."""
    remove_leftovers(attention, ".npz", models)
    remove_leftovers(metrics, ".json", models)
    for history in metrics.glob("*/history.csv"):
        if history.parent.name not in models:
            shutil.rmtree(history.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("metrics", "data", "default", "source"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--params", type=Path, default="params.yaml")
    arguments = parser.parse_args()
    try:
        content = gather(arguments.metrics, arguments.data, arguments.params, arguments.default, arguments.source)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro report`") from None
    forget_others(arguments.metrics / "models", arguments.data / "attention", content["models"])
    curves = join_histories(content["histories"])
    write_text(arguments.metrics / "curves.csv", curves.to_csv(index=False, lineterminator="\n"))
    for name in ("report.html", "report.md"):
        write_text(arguments.metrics / name, render(name, content))
    write_text(arguments.metrics / "model_card.md", render("model_card.md", describe_models(content)))


if __name__ == "__main__":
    run_stage(main)
