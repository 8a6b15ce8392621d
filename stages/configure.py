"""Write params.yaml for your own photographs: the recipe for photographs on a CPU, with your image folder.

    python -m stages.configure IMAGES

Does not overwrite a params.yaml with your own changes. `make repro IMAGES=/path/to/photos` runs this first.
"""

import argparse
import json
import os
import re
from pathlib import Path

from stages.runtime.errors import UserError
from stages.runtime.files import write_text
from stages.runtime.process import exit_cleanly

PARAMS, DEFAULT, RECIPE = Path("params.yaml"), Path("recipes/default.yaml"), Path("recipes/photos-cpu.yaml")
LINE = re.compile(r"^images: .*$", re.MULTILINE)


def name_images(recipe: str, images: str) -> str:
    """Replace the image folder in the text of a recipe."""
    text = images if re.fullmatch(r"[\w./-]+", images) else json.dumps(images, ensure_ascii=False)
    return LINE.sub(lambda _: f"images: {text}", recipe, count=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="folder of photographs; docs/images.md describes the layouts")
    images = os.path.expanduser(parser.parse_args().images)  # noqa: PTH111 (`make` and some shells do not expand ~)
    if not Path(images).is_dir():
        raise UserError(
            f"IMAGES: expected the path of a folder of photographs, but {images} is not a folder; correct the path"
        )
    recipe, found = RECIPE.read_text(encoding="utf-8"), PARAMS.read_text(encoding="utf-8")
    if found != DEFAULT.read_text(encoding="utf-8") and name_images(found, "") != name_images(recipe, ""):
        raise UserError(
            f"{PARAMS}: this file has your own changes, so {RECIPE} was not copied over it; either set `images: "
            f"{images}` in it and run without IMAGES, or discard your changes with `git checkout {PARAMS}`"
        )
    if found != name_images(recipe, images):
        write_text(PARAMS, name_images(recipe, images))
        print(f"{PARAMS}: now a copy of {RECIPE}, with images: {images}")


if __name__ == "__main__":
    exit_cleanly(main)
