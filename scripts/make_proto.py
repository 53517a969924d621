"""Makes the generated code of the gRPC API: `python/penstock/_pb` from `proto`.

`make proto` runs it. Only messages are generated: the server takes and gives raw bytes, and the
client names its one method itself, so no stubs of services are needed.
"""

import argparse
import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
GENERATED = ROOT / "python" / "penstock" / "_pb"


def main() -> int:
    """Write the code below `--output`; the compiler's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=GENERATED)
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(path) for path in PROTO.rglob("*.proto"))
    # mypy-protobuf's stubs carry the comments of the API; its program stands beside this Python.
    stubs = Path(sys.executable).parent / "protoc-gen-mypy"
    arguments = [
        f"--proto_path={PROTO}",
        f"--python_out={output}",
        f"--plugin=protoc-gen-mypy={stubs}",
        f"--mypy_out=quiet:{output}",
    ]
    code: int = protoc.main(["protoc", *arguments, *sources])
    return code


if __name__ == "__main__":
    sys.exit(main())
