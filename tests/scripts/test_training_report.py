"""The report of training, as it is in the documents."""

from pathlib import Path

from scripts import training_report

DOCUMENTS = Path(__file__).parents[2] / "docs" / "benchmarks"


def test_the_table_in_the_document_is_that_of_the_runs():
    document = (DOCUMENTS / "training.md").read_text(encoding="utf-8")
    rows = training_report.read_rows(DOCUMENTS / "training")
    assert training_report.with_table(document, rows) == document
    assert len(rows) > 10


def test_every_run_has_its_curve():
    for row in training_report.read_rows(DOCUMENTS / "training"):
        assert (DOCUMENTS / "training" / f"{row['file']}.csv").is_file()
