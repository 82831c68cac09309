"""Command line of the series; `python -m helpers COMMAND --help` says more."""

import argparse
import sys
from pathlib import Path

from helpers import assets, require


def build_parser(with_run: bool) -> argparse.ArgumentParser:
    """The parser; the runner is slow to import and is asked for its options only `with_run`."""
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fetch = commands.add_parser("fetch", help="download data sets, vectors and models ahead")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="names that `assets` lists")
    fetch.add_argument("--all", action="store_true", help="every asset of the series")
    commands.add_parser("assets", help="list what there is and what is cached")
    commands.add_parser("readme", help="put the committed records into the README")
    commands.add_parser("numbers", help="put them into prose: README and notebooks")
    verify = commands.add_parser("verify", help="prove that a change of code changes no record")
    verify.add_argument("notebooks", nargs="*", type=Path, help="default: all that do not stand")
    verify.add_argument("--against", default="", help="a commit, or a folder of its quick runs")
    run = commands.add_parser("run", help="execute notebooks: the series, one, or a grid")
    if with_run:
        from helpers.series import runner

        runner.add_arguments(run)
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
    argv = sys.argv[1:] if argv is None else argv
    if {*argv[:1]} & {"run", "readme", "numbers", "verify"}:
        require("papermill", "series")
    parser = build_parser(with_run=argv[:1] == ["run"])
    args = parser.parse_args(argv)
    if args.command == "fetch" and not (args.names or args.all):
        parser.error("fetch needs names, or --all; `python -m helpers assets` lists them")
    try:
        if args.command == "assets":
            list_assets()
        elif args.command == "fetch":
            assets.fetch(None if args.all else args.names)
        else:
            from helpers.series import numbers, readme, runner, verify

            if args.command == "run":
                return runner.main(args)
            if args.command == "verify":
                return verify.main(args.notebooks, args.against)
            readme.update() if args.command == "readme" else numbers.update()
    except (assets.AssetError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
