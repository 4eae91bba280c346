"""Every notebook runs from top to bottom."""

import os
import shutil
from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def _data_dir(tmp_path_factory):
    """TFDS's folder: the user's own, or one with the files of Fashion-MNIST.

    They are those of the folder that `TFP_FLOWS_FASHION_MNIST` names; without it TFDS
    gets them from the network.
    """
    source = os.environ.get("TFP_FLOWS_FASHION_MNIST")
    files = sorted(Path(source).glob("*-ubyte.gz")) if source else []
    with pytest.MonkeyPatch.context() as patch:
        if files and "TFDS_DATA_DIR" not in os.environ:
            folder = tmp_path_factory.mktemp("tfds")
            manual = folder / "downloads" / "manual"
            manual.mkdir(parents=True)
            for file in files:
                shutil.copy(file, manual)
            patch.setenv("TFDS_DATA_DIR", str(folder))
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("_data_dir")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path):
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3").execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_with_outputs_and_listed(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert "?" in cells[0].source.splitlines()[0]
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(o.output_type == "error" for cell in code for o in cell.outputs)
    assert path.name in (FOLDER / "README.md").read_text()
