"""Command line of the series; `python -m helpers COMMAND --help` says more."""

import argparse
import sys
from pathlib import Path

from filelock import Timeout

from helpers import assets, require


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("assets", help="list what there is and what is cached")
    commands.add_parser("numbers", help="put the committed records into the prose")
    fetch = commands.add_parser("fetch", help="download data sets, vectors and models ahead")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="names that `assets` lists")
    fetch.add_argument("--all", action="store_true", help="every asset of the series")
    verify = commands.add_parser("verify", help="prove that a change of code changes no record")
    verify.add_argument("notebooks", nargs="*", type=Path, help="default: all that do not stand")
    verify.add_argument("--against", default="", metavar="COMMIT", help="default: what made them")
    run = commands.add_parser("run", help="execute notebooks: the series, one, or a grid")
    run.add_argument("notebooks", nargs="*", type=Path, help="default: the whole series")
    run.add_argument("-p", dest="given", action="append", default=[], metavar="NAME=VALUE")
    run.add_argument("--grid", nargs="+", metavar="NAME=V1,V2", help="run all combinations")
    run.add_argument("--jobs", type=int, help="how many side by side (-1: one a core)")
    run.add_argument("--output", type=Path, help="folder for the executed copies")
    run.add_argument("--refresh", "--record", action="store_true", help="keep records and outputs")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command: 0 if all went well, 1 if something failed, 2 if the request is wrong (then
    nothing has run; `fetch` says 1), 130 if it was interrupted."""
    args = (parser := build_parser()).parse_args(argv)
    if args.command == "fetch" and not (args.names or args.all):
        parser.error("fetch needs names, or --all; `python -m helpers assets` lists them")
    try:
        if args.command == "assets":
            print(f"{'name':13} {'kind':8}   MB  {'licence':37} cached  provides")
            for asset in assets.catalogue().values():
                told = f"{asset.name:13} {asset.kind:8} {asset.size / 1e6:4.0f}  {asset.licence:37}"
                cached = "yes" if assets.is_cached(asset.name) else "no"
                print(f"{told} {cached:6}  {', '.join(asset.provides)}".rstrip())
            print(f"\nCache: {assets.cache_folder()}")
        elif args.command == "fetch":
            assets.fetch(None if args.all else args.names)
        else:
            for module in ("helpers.series", "papermill"):  # in this order: see there
                require(module, "series")
            from helpers.series import numbers, runner, verify

            if args.command == "run":
                return runner.main(args)
            if args.command == "verify":
                return verify.main(args.notebooks, args.against)
            numbers.update()
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where it was", file=sys.stderr)
        return 130
    except (assets.AssetError, ValueError, OSError) as error:
        held = "Another run writes there, wait for its end: " * isinstance(error, Timeout)
        print(f"error: {held}{error}", file=sys.stderr)
        return 1 if args.command == "fetch" else 2
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # a log shows each line at once
    sys.exit(main())
