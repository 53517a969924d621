"""Copy into a corpus, out of what fuzzing found, the few inputs that reach most of what is reached.

`fuzz_keep.py CONTROL CORPUS`: CONTROL is what libFuzzer noted of each input in a merge with
`-set_cover_merge=1`. Its own choice is every input that reaches one edge more, which are hundreds
of files for each target. Greedy: next comes what reaches most that is new, of equals the smallest.
What the corpus holds already stays: it was put there by name.
"""

import shutil
import sys
from pathlib import Path

# Edges of code that only this input reaches, for which a file is worth its place in the repository.
MIN_NEW_EDGES = 4


def main(control: Path, corpus: Path) -> None:
    """Read the control file, choose, and copy."""
    lines = control.read_text().splitlines()
    # The number of inputs, how many of them are the corpus, and their names, one a line.
    count, kept = int(lines[0]), int(lines[1])
    names = [Path(line) for line in lines[2 : 2 + count]]
    reached: dict[int, set[int]] = {}
    for line in lines[2 + count :]:
        what, *numbers = line.split()
        if what == "FT":
            reached[int(numbers[0])] = {int(number) for number in numbers[1:]}
    done = set[int]().union(*(reached.get(index, set()) for index in range(kept)))
    found = [index for index in range(kept, count) if index in reached]
    before = len(done)
    chosen = []
    while found:
        best = max(found, key=lambda at: (len(reached[at] - done), -names[at].stat().st_size))
        if len(reached[best] - done) < MIN_NEW_EDGES:
            break
        done |= reached[best]
        found.remove(best)
        chosen.append(names[best])
    for path in chosen:
        shutil.copyfile(path, corpus / path.name)
    print(f"{len(chosen)} inputs kept; edges reached: {before} before, {len(done)} with them")


main(Path(sys.argv[1]), Path(sys.argv[2]))
