"""``kmeans-xp select-k``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from kmeans_xp.cli import options as opt
from kmeans_xp.cli.app import app, guarded, note
from kmeans_xp.cli.report import print_json, print_table
from kmeans_xp.cli.rows import noted, read_rows
from kmeans_xp.selection import select_k as select

__all__ = ["Criterion", "select_k"]


class Criterion(StrEnum):
    """What makes a number of clusters a good one."""

    ELBOW = "elbow"
    SILHOUETTE = "silhouette"
    CALINSKI_HARABASZ = "calinski_harabasz"
    DAVIES_BOULDIN = "davies_bouldin"
    GAP = "gap"
    BIC = "bic"


@app.command("select-k")
@guarded()
def select_k(
    data: opt.DataArgument,
    least: Annotated[int, typer.Option("--from", help="Fewest clusters to try.", min=1)] = 1,
    most: Annotated[int, typer.Option("--to", help="Most clusters to try.", min=1)] = 20,
    criterion: Annotated[
        list[Criterion] | None,
        typer.Option(
            help="What to choose by; give it again for more columns, the first one chooses. "
            "Default: elbow.",
            show_default=False,
        ),
    ] = None,
    columns: opt.ColumnsOption = None,
    array: opt.ArrayOption = None,
    standardize: opt.StandardizeOption = False,
    weights: opt.WeightsOption = None,
    metric: opt.MetricOption = opt.Metric.EUCLIDEAN,
    seed: opt.SeedOption = 0,
    n_init: opt.NInitOption = "5",
    device: opt.DeviceOption = "cpu",
    progress: opt.ProgressOption = None,
    form: opt.FormatOption = opt.Format.TABLE,
) -> None:
    """Try several numbers of clusters and choose one."""
    if least > most:
        raise typer.BadParameter(f"{most} is less than --from {least}", param_hint="'--to'")
    criteria = [str(one) for one in dict.fromkeys(criterion or [Criterion.ELBOW])]
    w, shown = opt.as_weights(weights), opt.as_progress(progress)
    X = read_rows(data, columns, array, standardize).values
    most = min(most, len(X))
    note(f"clustering {' x '.join(map(str, X.shape))} {X.dtype} values, k = {least} to {most}")
    with opt.blaming(weights), noted():
        found = select(
            X,
            range(least, most + 1),
            criterion=criteria,
            n_init=opt.as_n_init(n_init),
            sample_weight=w,
            metric=str(metric),
            random_state=seed,
            device=opt.as_device(device),
            progress=shown,
        )
    _print(found, form)


def _print(found: Any, form: opt.Format) -> None:
    if form is opt.Format.JSON:
        print_json(
            {
                "k": found.k,
                "criterion": found.criterion,
                "reason": found.reason,
                "rows": [dict(row) for row in found.rows],
            }
        )
        return
    names = list(found.rows[0])
    cells = [[*names, ""]]
    for row in found.rows:
        mark = "<" if row["k"] == found.k else ""
        cells.append([*(f"{row[name]:.6g}" for name in names), mark])
    print_table(cells)
    print()
    print(f"k       {'-' if found.k is None else found.k}")
    print(f"reason  {found.reason}")
