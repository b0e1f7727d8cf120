"""What the commands print."""

from agents.console import final_table


def test_the_final_table_is_aligned_and_unwrapped(capsys):
    final_table({"return": "5,123.4 [best]", "checkpoint": "/runs/" + "long/" * 40})
    assert capsys.readouterr().out.splitlines() == [
        "return      5,123.4 [best]",
        "checkpoint  /runs/" + "long/" * 40,
    ]
