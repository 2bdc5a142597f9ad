"""Show how fast this machine trains and evaluates."""

from __future__ import annotations

from typing import Any

from mnistcli.view.output import Output
from mnistcli.view.tables import Column, integer, percent, plain_line, print_table


def _rate(value: float) -> str:
    return integer(round(value))


def _plain_rate(value: float) -> str:
    return str(round(value))


def _times(value: float) -> str:
    return f"{value:.2f}×"


_ms = "{:.2f}".format

_COLUMNS = [
    Column("model", "model", left=True),
    Column("recipe", "recipe", left=True, rank=1),
    Column("images_per_second", "train img/s", _rate, _plain_rate),
    Column("evaluation_images_per_second", "evaluate img/s", _rate, _plain_rate, rank=2),
    Column("baseline_images_per_second", "user's img/s", _rate, _plain_rate, rank=3),
    Column("torch_images_per_second", "PyTorch loop img/s", _rate, _plain_rate, rank=3),
    Column("torch_mode", "torch.compile", left=True, rank=7),
    Column("ratio", "ratio", _times, "{:.2f}".format),
    Column("latency_median_ms", "latency ms", _ms, _ms, rank=6),
    Column("latency_p95_ms", "p95 ms", _ms, _ms, rank=6),
    Column("warmup_seconds", "warm-up s", "{:.1f}".format, "{:.1f}".format, rank=4),
    Column("rss_mib", "peak RSS MiB", "{:.0f}".format, "{:.0f}".format, rank=5),
    Column("allocated_mib", "peak alloc MiB", "{:.0f}".format, "{:.0f}".format, rank=5),
]
_PARTS = [
    Column("part", "an epoch's", left=True),
    Column("seconds", "seconds", "{:.2f}".format, "{:.2f}".format),
    Column("share", "share", percent, lambda v: f"{100 * v:.2f}"),
]
_LIMIT = [
    Column("precision", "precision", left=True),
    Column("matmul_gflops", "matrix-product GFLOP/s", "{:,.0f}".format, "{:.0f}".format),
    Column("floor_seconds", "an epoch's floor s", "{:.2f}".format, "{:.2f}".format),
    Column("share", "floor / step", percent, lambda v: f"{100 * v:.2f}"),
]
_THREADS = [
    Column("count", "threads", integer),
    Column("images_per_second", "train img/s", _rate, _plain_rate),
    Column("one_thread_images_per_second", "one thread's", _rate, _plain_rate),
    Column("ratio", "ratio", _times, "{:.2f}".format),
    Column("worst_ratio", "worst round", _times, "{:.2f}".format),
]
_NEIGHBOURS = [Column("processes", "busy neighbours", integer), *_THREADS]
_JOBS = [
    Column("jobs", "processes", integer),
    Column("runs_per_hour", "runs per hour", "{:.1f}".format, "{:.1f}".format),
    Column("one_job_runs_per_hour", "one process's", "{:.1f}".format, "{:.1f}".format),
    Column("ratio", "ratio", _times, "{:.2f}".format),
    Column("share", "ratio / processes", percent, lambda v: f"{100 * v:.2f}"),
]
_GROWTH = [
    Column("images", "pictures per epoch", integer),
    *(column for column in _COLUMNS if column.key == "images_per_second"),
    Column("seconds", "seconds", "{:.1f}".format, "{:.1f}".format),
    *(column for column in _COLUMNS if column.key in ("rss_mib", "allocated_mib")),
]
_WHERE_MEASURED = {
    "threads": _THREADS,
    "neighbours": _NEIGHBOURS,
    "jobs": _JOBS,
    "growth": _GROWTH,
}


def show_bench(output: Output, report: dict[str, Any]) -> None:
    """Show speed, ratio, where an epoch's time goes, and the machine's floor for it."""
    parts = [
        {"part": part, "seconds": seconds, "share": report["shares"][part]}
        for part, seconds in report["epoch_seconds"].items()
    ]
    print_table(output, _PARTS, parts, title="", kind="part")
    print_table(output, _LIMIT, [report["limit"]], title="", kind="limit")
    row = report | {f"latency_{name}_ms": value for name, value in report["latency_ms"].items()}
    known = [column for column in _COLUMNS if row.get(column.key) is not None]
    print_table(output, known, [row], title="", kind="bench")
    for kind, columns in _WHERE_MEASURED.items():
        if kind in report:
            rows = report[kind] if kind == "growth" else [report[kind]]
            print_table(output, columns, rows, title="", kind=kind)
    output.talk(f"note: measured on {report['machine']}; compare ratios, not machines")
    if output.quiet:
        output.result(plain_line("result", known, row))
    output.document(report)
