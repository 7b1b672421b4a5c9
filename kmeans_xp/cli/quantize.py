"""``kmeans-xp quantize``: a picture in few colours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from kmeans_xp.cli import options as opt
from kmeans_xp.cli.app import CommandError, app, guarded, need, note
from kmeans_xp.cli.report import percent, print_json, print_table
from kmeans_xp.cli.results import write_all
from kmeans_xp.cli.rows import cluster
from kmeans_xp.io.read import IMAGES
from kmeans_xp.io.stores import read_image

__all__ = ["quantize"]


@app.command()
@guarded()
def quantize(
    picture: Annotated[Path, typer.Argument(help=f"A picture: {', '.join(IMAGES)}.")],
    n_clusters: Annotated[
        int, typer.Option("--n-clusters", "-k", help="Number of colours.", min=1, max=256)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new picture, .png.")],
    seed: opt.SeedOption = 0,
    n_init: opt.NInitOption = "auto",
    device: opt.DeviceOption = "cpu",
    progress: opt.ProgressOption = None,
    form: opt.FormatOption = opt.Format.TABLE,
) -> None:
    """Redraw a picture in the k colours that fit it best; print the colours."""
    if out.suffix.lower() != ".png":
        raise typer.BadParameter("give a name that ends in .png", param_hint="'--out'")
    if picture.suffix.lower() not in IMAGES:
        raise CommandError(f"{picture}: no picture; give one of {', '.join(IMAGES)}")
    image = need("PIL.Image", "plot")
    bar = opt.as_progress(progress)
    pixels = read_image(picture)
    height, width, channels = pixels.shape
    note(f"clustering {height} x {width} pixels")
    result = cluster(
        pixels.reshape(-1, channels),
        n_clusters,
        n_init=opt.as_n_init(n_init),
        random_state=seed,
        device=opt.as_device(device),
        progress=bar,
    )
    colors = np.rint(result.centroids).astype(np.uint8)
    new = image.fromarray(result.labels.astype(np.uint8).reshape(height, width))
    new.putpalette(np.broadcast_to(colors, (len(colors), 3)).tobytes())
    write_all({out: lambda file: new.save(file, format="PNG", optimize=True)})
    _print(colors, result, out, form)


def _print(colors: np.ndarray, result: Any, out: Path, form: opt.Format) -> None:
    sizes = np.bincount(result.labels, minlength=len(colors))
    names = ["#" + bytes(np.broadcast_to(color, 3)).hex() for color in colors]
    order = np.argsort(-sizes, kind="stable")
    if form is opt.Format.JSON:
        found = [{"color": names[k], "pixels": int(sizes[k])} for k in order]
        print_json({"colors": found, "inertia": result.inertia, "files": [str(out)]})
        return
    rows = [[names[k], str(sizes[k]), percent(sizes[k], sizes.sum())] for k in order]
    print_table([["color", "pixels", "share"], *rows])
    print()
    print(f"inertia     {result.inertia!r}")
    print(f"wrote       {out}")
