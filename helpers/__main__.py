"""Command line of the series; `python -m helpers COMMAND --help` says more."""

import argparse
import sys
from pathlib import Path

from helpers import assets, require


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("assets", help="list what there is and what is cached")
    commands.add_parser("numbers", help="put the committed records into README and prose")
    fetch = commands.add_parser("fetch", help="download data sets, vectors and models ahead")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="names that `assets` lists")
    fetch.add_argument("--all", action="store_true", help="every asset of the series")
    verify = commands.add_parser("verify", help="prove that a change of code changes no record")
    verify.add_argument("notebooks", nargs="*", type=Path, help="default: all that do not stand")
    verify.add_argument("--against", default="", help="a commit, or a folder of its quick runs")
    run = commands.add_parser("run", help="execute notebooks: the series, one, or a grid")
    run.add_argument("notebooks", nargs="*", type=Path, help="default: the whole series")
    run.add_argument("-p", dest="given", action="append", default=[], metavar="NAME=VALUE")
    run.add_argument("--grid", nargs="+", metavar="NAME=V1,V2", help="run all combinations")
    run.add_argument("--jobs", type=int, help="how many side by side (-1: one a core)")
    run.add_argument("--output", type=Path, help="folder for the executed copies")
    run.add_argument("--record", action="store_true", help="keep the records in data/records/")
    run.add_argument("--refresh", action="store_true", help="and put outputs into the notebooks")
    return parser


def list_assets() -> None:
    """Print the catalogue as a table."""
    rows = [("name", "kind", "MB", "licence", "cached", "provides")]
    for asset in assets.catalogue().values():
        told = asset.kind, f"{asset.size / 1e6:.0f}", asset.licence
        cached = "yes" if assets.is_cached(asset.name) else "no"
        rows.append((asset.name, *told, cached, ", ".join(asset.provides)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    print(f"\nCache: {assets.cache_folder()}")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command == "fetch" and not (args.names or args.all):
        parser.error("fetch needs names, or --all; `python -m helpers assets` lists them")
    try:
        if args.command == "assets":
            list_assets()
        elif args.command == "fetch":
            assets.fetch(None if args.all else args.names)
        else:
            require("papermill", "series")
            from helpers.series import numbers, readme, runner, verify

            if args.command == "run":
                return runner.main(args)
            if args.command == "verify":
                return verify.main(args.notebooks, args.against)
            readme.update()
            numbers.update()
    except (assets.AssetError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # a log shows each line at once
    sys.exit(main())
