"""Test the smallest network of each timm module, with random weights, in all stages; write the table in docs/models.md.

    python -m benchmarks.networks [--modules NAME ...] [--limit N]

Each network starts from weights as `fetch` writes them. It is trained for one step, evaluated, exported, compared with
its graph, and opened in plain timm as in docs/libraries.md. With random weights, rounding visibly changes the answers
of some networks, so a difference counts only if it is larger than what noise of 1e-6 in the pixels does.

Results are in benchmarks/results/timm-networks.json; modules in this file are skipped, unless --modules names them. All
modules take hours; you can stop and resume.
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import multiprocessing
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stages.runtime.files import write_json, write_text
from stages.runtime.process import exit_cleanly

RESULTS, PAGE = Path("benchmarks/results/timm-networks.json"), Path("docs/models.md")
MARKS = "<!-- made by python -m benchmarks.networks -->\n", "<!-- end -->\n"
SIZES_PX = (64, 96, 128, 160, 192, 224, 240, 256, 384)
CLASSES = ["a", "b", "c"]
TIMEOUT_S = 1200
TOLERANCE, NOISE = 1e-3, 1e-6


def choose_network(module: str) -> str:
    """Return the network of a module with the fewest parameters, except timm's test networks."""
    import timm
    import torch

    def count(name: str) -> int:
        with torch.device("meta"):
            return sum(each.numel() for each in timm.create_model(name).parameters())

    return min((name for name in timm.list_models(module=module) if not name.startswith("test_")), key=count)


def find_size(network: str) -> int:
    """Return the first of SIZES_PX that the network accepts; if it accepts none, the last one."""
    from stages.models.timm import Arguments

    for size_px in SIZES_PX:
        with contextlib.suppress(ValueError):
            Arguments(network=network).check(size_px)
            return size_px
    return SIZES_PX[-1]


class Trial:
    """One network and its folder; each method is a step, and raises an error if it fails."""

    def __init__(self, folder: Path, network: str, size_px: int):
        self.folder, self.network, self.size_px, self.maps = folder, network, size_px, ""
        self.tolerance = TOLERANCE
        self.models, self.file = folder / "data" / "models", folder / "data" / "models" / "sixth.safetensors"

    def run(self, stage: str, *arguments: object) -> None:
        """Run the main function of a stage; if it ends with an error, raise the line that it printed."""
        main = __import__(f"stages.{stage}", fromlist=["main"]).main
        said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)  # can be reconfigured
        sys.argv = [stage, *map(str, arguments)]
        try:
            with contextlib.redirect_stderr(said):
                exit_cleanly(main)
        except SystemExit:
            raise ValueError(said.buffer.getvalue().decode()) from None

    def fetch(self) -> None:
        import timm

        from stages.fetch import leave_out_classifier
        from stages.networks.start_weights import Origin, write_start_weights

        config = timm.get_pretrained_cfg(self.network)
        size = {"img_size": self.size_px} if config.fixed_input_size else {}  # for position embeddings
        network = timm.create_model(self.network, **size)
        weights = leave_out_classifier(network.state_dict(), config.classifier)
        write_start_weights(self.folder / "start.safetensors", weights, Origin("random", config.mean, config.std))

    def train(self) -> None:
        import yaml

        params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        params["image_sizes_px"] = [params["audit"]["image_size_px"], self.size_px]
        params["training"] |= {"epochs": 1, "batch_size": 4, "warmup_epochs": 0, "precision": "fp32"}
        block = {"architecture": "timm", "network": self.network, "weights": f"{self.folder}/start.safetensors"}
        params["models"] = {"sixth": {**block, "image_size_px": self.size_px, "lr": 1e-4}}
        write_text(self.folder / "params.yaml", yaml.safe_dump(params))
        random = np.random.default_rng(1)
        for split in ("train", "val", "test"):
            side = self.size_px + 8
            images = random.integers(0, 256, (4, side // 8, side // 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
            for name, values in {"images": images, "labels": np.arange(4) % 3, "groups": np.arange(4)}.items():
                (self.folder / "packed" / split).mkdir(parents=True, exist_ok=True)
                np.save(self.folder / "packed" / split / f"{name}.npy", values)
        write_json(self.folder / "packed" / "classes.json", CLASSES)
        history = self.folder / "history.csv"
        self.run("train", "sixth", self.folder / "packed", self.file, history, "--params", self.folder / "params.yaml")
        self._spread()

    def _spread(self) -> None:
        """Set weights of the head so that answers differ between pictures; otherwise all probabilities would be 1/3."""
        from safetensors.torch import load_file

        from stages.networks.model_files import load_model, save_weights

        network, card = load_model(self.file)
        logits, state = self._answer(network), load_file(self.file)
        scale = 1 / logits.std(dim=0).clamp(min=1e-6)
        last = sorted(name for name in state if name.startswith("head."))[-1].rpartition(".")[0]
        state[f"{last}.weight"] = state[f"{last}.weight"] * scale[:, None]
        state[f"{last}.bias"] = (state[f"{last}.bias"] - logits.mean(dim=0)) * scale
        save_weights(self.file, state, vars(card))

        network = load_model(self.file)[0]
        self.tolerance += 3 * float((self._answer(network, NOISE) - self._answer(network)).abs().max())

    def _answer(self, network: Any, noise: float = 0.0) -> Any:
        """Return the logits for the centres of the test pictures, one picture at a time."""
        import torch

        images = torch.from_numpy(np.load(self.folder / "packed" / "test" / "images.npy"))[:, 4:-4, 4:-4]
        pictures = images.permute(0, 3, 1, 2) / 255 - 0.5
        pictures = pictures + noise * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            return torch.cat([network(each[None]) for each in pictures])

    def evaluate(self) -> None:
        arrays = "predictions.npz", "attention.npz", "distances.npz", "sixth.novelty.npz"
        files = "names.json", *arrays, "one.json", "one"  # names.json need not exist
        self.run("evaluate", self.file, self.folder / "packed", *(self.folder / name for name in files))
        maps = np.load(self.folder / "attention.npz")["maps"]
        self.maps = " x ".join(map(str, maps.shape[1:])) if len(maps) else "no"

    def export(self) -> None:
        import onnxruntime
        import torch

        from stages.inference.ensembles import load_ensemble

        graph = self.folder / "one.onnx"
        self.run("export", graph, "--models", self.models, "--model", "sixth")
        images = np.load(self.folder / "packed" / "test" / "images.npy")
        session = onnxruntime.InferenceSession(graph)
        found = session.run(None, {session.get_inputs()[0].name: images})[0]
        expected = load_ensemble(self.models, "sixth").predict_proba({images.shape[1]: images}, torch.device("cpu"))
        if (difference := np.abs(found - expected).max()) > self.tolerance:
            raise ValueError(f"the graph's probabilities differ by {difference:.3f}")

    def open(self) -> None:
        import safetensors.torch
        import timm
        import torch

        from stages.networks.model_files import load_model

        text = Path("docs/libraries.md").read_text(encoding="utf-8")
        blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        code = "\n".join(
            block for block in blocks if "timm.create_model" in block or "def " in block
        )  # and what it calls
        code = re.sub("^probabilities = .*", "", code, flags=re.MULTILINE).replace("resnet18", self.network)
        names: dict[str, Any] = {"safetensors": safetensors, "timm": timm, "torch": torch, "nn": torch.nn}
        with contextlib.chdir(self.folder):
            exec(code, names)
        found, expected = self._answer(names["network"].eval()), self._answer(load_model(self.file)[0])
        if (difference := (found - expected).abs().max()) > self.tolerance:
            raise ValueError(f"the logits differ by {difference:.3f}")


def try_network(network: str, size_px: int) -> dict[str, Any]:
    """Run all steps with a network; return the sides of its maps, and a line for each failed step."""
    faults: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), network, size_px)
        steps: tuple[Callable[[], None], ...] = (trial.fetch, trial.train, trial.evaluate, trial.export, trial.open)
        for step in steps:
            try:
                step()
            except Exception as error:  # any error is a result
                line = f"{type(error).__name__}: {error}".removeprefix("ValueError: ").removeprefix("error: ")
                faults[step.__name__] = " ".join(line.split()).replace(f"{folder}/", "")[:400]
                if not trial.file.exists():
                    break
    return {"maps": trial.maps, "faults": faults}


def try_apart(network: str, size_px: int) -> dict[str, Any]:
    """Try a network in a separate process, which may be killed; a fork, so that nothing is imported again."""
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401

    from stages import evaluate, export, fetch, train  # noqa: F401
    from stages.inference import graphs  # noqa: F401

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=lambda: there.send(try_network(network, size_px)))
    process.start()
    there.close()
    try:
        if here.poll(TIMEOUT_S):
            return here.recv()
        return {"maps": "", "faults": {"all": f"more than {TIMEOUT_S} s"}}
    except EOFError:
        process.join()
        return {"maps": "", "faults": {"all": f"exit code {process.exitcode}"}}
    finally:
        process.kill()
        process.join()


def render_table(results: dict[str, Any]) -> str:
    """Return the table as Markdown: one row per module, with the failed steps."""
    rows = results["modules"].values()
    n_whole = sum(not row["faults"] for row in rows)
    lines = [
        f"{n_whole} of the {len(rows)} modules tried so far work, with timm {results['timm']} and PyTorch "
        f"{results['torch']}:\n",
        "| module | its smallest network | px | maps | does not work |",
        "|---|---|---:|---|---|",
    ]
    for module, row in results["modules"].items():
        faults = "; ".join(f"{step}: {line}" for step, line in row["faults"].items()).replace("|", "\\|")
        lines.append(f"| `{module}` | `{row['network']}` | {row['size_px']} | {row['maps']} | {faults} |")
    return "\n".join(lines) + "\n"


def write_page(results: dict[str, Any]) -> None:
    """Write the table between its marks in docs/models.md."""
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    write_text(PAGE, before + MARKS[0] + "\n" + render_table(results) + "\n" + MARKS[1] + rest.split(MARKS[1])[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", nargs="+", metavar="NAME", help="timm modules; by default those without a result")
    parser.add_argument("--limit", type=int, metavar="N", help="largest number of modules to try")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "SIZE_PX"), help="print the result of one network")
    arguments = parser.parse_args()
    if arguments.one:
        print(try_network(arguments.one[0], int(arguments.one[1])))
        return
    import timm

    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"modules": {}}
    results |= {name: importlib.metadata.version(name) for name in ("timm", "torch", "onnxscript")}
    waiting = [each for each in timm.list_modules() if each not in results["modules"]]
    for module in (arguments.modules or waiting)[: arguments.limit]:
        network = choose_network(module)
        size_px = find_size(network)
        result = {"network": network, "size_px": size_px, **try_apart(network, size_px)}
        print(module, network, size_px, result["maps"], result["faults"] or "", flush=True)
        results["modules"] = dict(sorted({**results["modules"], module: result}.items()))
        write_json(RESULTS, results)
        write_page(results)


if __name__ == "__main__":
    exit_cleanly(main)
