"""Builds both wheels and tries them where the source tree can't be seen.

An editable install hides a file that a wheel lacks, and an import of the client that only works
because the operators' dependencies are there. Run by `make check`; needs the package index.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLIENT_DEPENDENCIES = {"confluent-kafka", "msgspec"}

CLIENT_PROGRAM = """
import importlib.metadata, pkgutil, sys
import tidegate.client
import tidegate.schemas.decision, tidegate.schemas.topics
from tidegate.client.kafka_config import load_kafka_config
assert load_kafka_config(None, {}, "a:1") == {"bootstrap.servers": "a:1"}
heavy = {"numpy", "numba", "faust", "aiokafka", "yaml", "opentelemetry"} & set(sys.modules)
assert not heavy, f"the client imported {heavy}"
print(" ".join(sorted(d.name.lower().replace("_", "-") for d in importlib.metadata.distributions())))
"""


def main() -> int:
    """Exit status 0 if both wheels work."""
    with tempfile.TemporaryDirectory(prefix="tidegate-wheels-") as name:
        folder = Path(name)
        client, root = build(ROOT / "schemas", folder), build(ROOT, folder)
        check_contents(client, root)
        try_client(client, folder)
        try_root(client, root, folder)
    say("both wheels work")
    return 0


def build(source: Path, folder: Path) -> Path:
    """One wheel, by the locked hatchling of this environment."""
    out = folder / f"dist-{source.name}"
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source])
    (wheel,) = out.glob("*.whl")
    return wheel


def check_contents(client: Path, root: Path) -> None:
    """No file in both, none of the namespace's own, no tests, and all data files."""
    contents = {wheel: set(zipfile.ZipFile(wheel).namelist()) for wheel in (client, root)}
    both = {name for name in contents[client] & contents[root] if ".dist-info/" not in name}
    require(not both, f"both wheels hold {sorted(both)}; the second install would overwrite them")
    for wheel, names in contents.items():
        strange = {
            name
            for name in names
            if name == "tidegate/__init__.py"
            or not (name.startswith("tidegate/") or ".dist-info/" in name)
        }
        require(not strange, f"{wheel.name} holds {sorted(strange)}")
    for source, wheel in (("schemas", client), ("rules", root), ("streams", root)):
        here = {
            path.relative_to(ROOT / source).as_posix()
            for path in (ROOT / source / "tidegate").rglob("*")
            if path.is_file() and path.suffix not in {".pyc", ".nbi", ".nbc"}
        }
        require(here <= contents[wheel], f"{wheel.name} lacks {sorted(here - contents[wheel])}")


def try_client(wheel: Path, folder: Path) -> None:
    """It installs two dependencies and imports with them alone."""
    python = environment(folder / "client", wheel)
    names = set(run([python, "-I", "-c", CLIENT_PROGRAM], cwd=folder).split())
    extra = names - CLIENT_DEPENDENCIES - {"tidegate-client", "pip", "setuptools"}
    require(not extra, f"the client wheel brought {sorted(extra)}")
    say(f"{wheel.name}: imports with {' and '.join(sorted(CLIENT_DEPENDENCIES))} alone")


def try_root(client: Path, root: Path, folder: Path) -> None:
    """The command replays a golden incident, twice with the same bytes."""
    python = environment(folder / "root", client, root)
    tidegate = python.with_name("tidegate")
    say(f"{root.name}: {run([tidegate, '--version'], cwd=folder).strip()}")
    golden = next(iter(sorted(ROOT.glob("tests/goldens/*/spans.jsonl*"))), None)
    require(golden is not None, "no golden found at tests/goldens/*/spans.jsonl*")
    copy = folder / Path(str(golden)).name
    shutil.copy(str(golden), copy)
    first = run([tidegate, "replay", copy], cwd=folder)
    require(first.count("\n") > 0, f"tidegate replay of {golden} gave no decision")
    require(first == run([tidegate, "replay", copy], cwd=folder), "a second replay differs")
    say(f"{root.name}: replays {Path(str(golden)).parent.name} to {first.count(chr(10))} decisions")


def environment(folder: Path, *wheels: Path) -> Path:
    """A clean virtual environment with these wheels and what they ask for. Returns its python."""
    uv = find_uv()
    run([uv, "venv", "--quiet", "--python", sys.executable, folder])
    python = folder / "bin" / "python"
    install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", python]
    # The resolver reads the wheels' own metadata: a dependency that is missing there shows here.
    run([*install, "--constraint", unhashed_lock(folder), *wheels])
    return python


def unhashed_lock(folder: Path) -> Path:
    """The lock's versions as constraints, which can't have hashes beside local wheels."""
    lines = (ROOT / "requirements-lock.txt").read_text().splitlines()
    pins = [line.rstrip(" \\") for line in lines if "==" in line and "--hash" not in line]
    path = folder / "constraints.txt"
    path.write_text("\n".join(pins) + "\n")
    return path


def find_uv() -> Path:
    """The project's own uv, or the one on the PATH."""
    own = ROOT / ".uv" / "bin" / "uv"
    found = shutil.which("uv")
    require(own.exists() or found is not None, "uv is missing; run `make setup`")
    return own if own.exists() else Path(str(found))


def run(command: list[str | Path], cwd: Path | None = None) -> str:
    """Standard output; ends everything with both outputs shown if the command fails."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV"}
    environ = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    shown = f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    require(done.returncode == 0, f"exit status {done.returncode} of {shown}")
    return done.stdout


def require(is_true: bool, text: str) -> None:
    """Ends the run with a message."""
    if not is_true:
        sys.exit(f"check_wheels: {text}")


def say(text: str) -> None:
    """Progress."""
    print(f"check_wheels: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
