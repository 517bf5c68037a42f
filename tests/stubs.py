"""Generates the stubs in `src/stagecast/v1` from the protos: `python -m tests.stubs`.

They are committed; `test_stubs.py` generates them again and compares.
grpcio-tools stays at the oldest release that the package supports: stubs run on every later
runtime and on no earlier one.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROTOS = ROOT / "proto"
SOURCES = ROOT / "src"


def make_stubs(target: Path) -> None:
    """Write the stubs of all protos below `target`.

    Raises:
        RuntimeError: if protoc refuses a proto.
    """
    # Only the extra `dev` installs it; the other tests do not need it.
    from grpc_tools import protoc  # type: ignore[import-untyped]  # it ships no types

    # The mypy plugins are beside the interpreter, also in a venv that is not activated.
    binaries = Path(sys.executable).parent
    well_known = Path(protoc.__file__).parent / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={well_known}",
            f"--plugin=protoc-gen-mypy={binaries / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={binaries / 'protoc-gen-mypy_grpc'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out={target}",
            f"--mypy_grpc_out={target}",
            *(str(path) for path in sorted(PROTOS.rglob("*.proto"))),
        ]
    )
    if code:
        raise RuntimeError(f"protoc ended with {code}")


if __name__ == "__main__":
    make_stubs(SOURCES)
