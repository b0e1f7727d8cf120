"""The reports of training, as they are in the documents."""

from pathlib import Path

import pytest

from scripts import training_report

DOCUMENTS = Path(__file__).parents[2] / "docs" / "benchmarks"


@pytest.fixture(params=["training", "robots"])
def folder(request):
    return DOCUMENTS / request.param


def test_the_table_in_the_document_is_that_of_the_runs(folder):
    document = folder.with_suffix(".md").read_text(encoding="utf-8")
    rows = training_report.read_rows(folder)
    assert training_report.with_table(document, rows) == document
    assert len(rows) > {"training": 10, "robots": 0}[folder.name]


def test_every_run_has_its_curve(folder):
    for row in training_report.read_rows(folder):
        assert (folder / f"{row['file']}.csv").is_file()
