"""Run the notebooks and save their outputs: `make notebooks`, or `python notebooks/execute.py 04_attention`.

Progress bars are left out, and so is everything that changes from run to run without meaning.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"


def main() -> None:
    names = sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in names:
        path = FOLDER / f"{name}.ipynb"
        book = nbformat.read(path, as_version=4)
        NotebookClient(book, timeout=3600, kernel_name="python3", resources={"metadata": {"path": FOLDER}}).execute()
        book.metadata = {"kernelspec": book.metadata["kernelspec"], "language_info": {"name": "python"}}
        for cell in book.cells:
            cell.metadata = {}
            cell.pop("id", None)
            if cell.cell_type == "code":
                outputs = cell.outputs
                cell.outputs = [
                    one for one in outputs if one.get("name") != "stderr" and WIDGET not in one.get("data", {})
                ]
        book.nbformat_minor = 4  # a format without cell identifiers
        nbformat.write(book, path)
        print(f"{path.name}: {sum(cell.cell_type == 'code' for cell in book.cells)} cells")


if __name__ == "__main__":
    main()
