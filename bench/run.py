"""Measures a running server: `python bench/run.py [--only NAME …] [--repeats N] [--smoke]`.

Each run has a new data directory and a new process on core 0; the load is on core 1. What is
stored in the end is counted and must be what was acknowledged. Prints each row, writes
`bench/results/*.json` and the results section of `bench/README.md`; `--smoke` runs everything for
a second, writes nothing and judges no timing.
"""

import argparse

from harness import load, results
from harness.measure import Row, measure
from harness.scenario import load_scenarios
from harness.server import PENSTOCK, ROOT

DEFAULT_REPEATS = 3


def main() -> None:
    """Read the command line and run the scenarios."""
    parser = argparse.ArgumentParser(description="load benchmarks against the real server")
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--repeats", type=int, default=DEFAULT_REPEATS)
    parser.add_argument("--smoke", action="store_true", help="about a second each; no results")
    parser.add_argument("--report", action="store_true", help="only remake the README's section")
    arguments = parser.parse_args()
    if arguments.report:
        results.write_readme()
        return
    if not PENSTOCK.exists():
        message = f"{PENSTOCK} is missing: run `make build-release`"
        raise SystemExit(message)
    program = load.build()
    scenarios = load_scenarios(ROOT / "bench" / "load" / "scenarios", arguments.only)
    if arguments.smoke:
        for scenario in scenarios:
            row = measure(scenario.smoke(), program, smoke=True)
            print(f"{scenario.name}: {row['stored_events']:,.0f} events acknowledged and stored")
        return
    rows: dict[str, list[Row]] = {scenario.name: [] for scenario in scenarios}
    wanted = {one.name: one.repeats or arguments.repeats for one in scenarios}
    # By turns: a machine that is slow for a while is slow for all that are compared.
    for turn in range(max(wanted.values())):
        for scenario in scenarios:
            if turn >= wanted[scenario.name]:
                continue
            rows[scenario.name].append(measure(scenario, program, smoke=False))
            if turn + 1 == wanted[scenario.name]:
                results.say(scenario, rows[scenario.name])
                results.save(scenario, rows[scenario.name])
                results.write_readme()


if __name__ == "__main__":
    main()
