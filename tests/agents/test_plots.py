"""Pictures and tables of runs."""

import csv
import math

import matplotlib.image
import numpy as np
import pytest

from agents import plots
from agents.errors import RunFolderError
from agents.logger import Logger


def make_run(run_dir, num_rows=10):
    """A run whose first rows know no episode yet."""
    with Logger(run_dir, tensorboard=False) as log:
        for i in range(num_rows):
            train = {
                "return_mean": math.nan if i < 2 else 10.0 * i,
                "length_mean": math.nan if i < 2 else 5.0 * i,
                "explained_variance": -100.0 if i == 0 else 0.1 * i,
                "action_std": 1.0 - 0.05 * i,
                "time/env_steps_per_s": 1e5,
            }
            log.log("train", 1000 * i, train)
            if i % 3 == 0:
                statistics = {"return_mean": i, "return_std": 1.0, "return_min": i - 2.0, "return_max": i + 1.0}
                log.log(
                    "eval", 1000 * i, statistics | {"length_mean": 5.0, "num_diverged": 0, "time/elapsed_s": 0.5 * i}
                )
    return run_dir


def pixels(path):
    return matplotlib.image.imread(path)[..., :3]


def test_a_learning_curve_is_drawn(tmp_path):
    path = plots.learning_curve([make_run(tmp_path / "run")], tmp_path / "new" / "curve.png", "ksim/Ant-v0 at $1")
    height, width, _ = pixels(path).shape
    assert path == tmp_path / "new" / "curve.png"
    assert height > 500 and width > 500


def test_all_three_panels_have_lines_in_the_color_of_the_run(tmp_path):
    picture = pixels(plots.learning_curve([make_run(tmp_path / "run")], tmp_path / "curve.png", "Ant"))
    is_blue = np.abs(picture - np.array([0x1F, 0x77, 0xB4]) / 255).max(axis=-1) < 0.02
    height, width = is_blue.shape
    evaluation, bottom = is_blue[: height // 2], is_blue[2 * height // 3 :]
    assert all(panel.sum() > 100 for panel in (evaluation, bottom[:, : width // 2], bottom[:, width // 2 :]))


def test_each_run_adds_a_line_of_its_own_color(tmp_path):
    one, two = make_run(tmp_path / "a" / "seed"), make_run(tmp_path / "b" / "seed", num_rows=7)
    picture = pixels(plots.learning_curve([one, two], tmp_path / "curve.png", "Ant"))
    is_orange = np.abs(picture - np.array([0xFF, 0x7F, 0x0E]) / 255).max(axis=-1) < 0.02
    assert is_orange.sum() > 300
    assert plots._labels([one, two]) == [str(one), str(two)]
    assert plots._labels([one]) == ["seed"]


def test_a_run_that_has_logged_nothing_yet_is_an_empty_picture_and_not_an_error(tmp_path):
    with Logger(tmp_path / "run", tensorboard=False):
        assert plots.learning_curve([tmp_path / "run"], tmp_path / "curve.png", "Ant").stat().st_size > 0


def test_a_folder_without_a_log_is_named(tmp_path):
    with pytest.raises(RunFolderError, match="nowhere holds no metrics"):
        plots.learning_curve([tmp_path / "nowhere"], tmp_path / "curve.png", "Ant")
    with pytest.raises(RunFolderError, match="nowhere holds no metrics"):
        plots.write_csv(tmp_path / "nowhere", tmp_path / "evaluations.csv")


def test_the_csv_holds_the_evaluations_and_nothing_else(tmp_path):
    run_dir = make_run(tmp_path / "run")
    with Logger(run_dir, resume_env_steps=3000, tensorboard=False) as log:
        log.log("eval", 4000, {"return_mean": math.nan, "length_mean": 7.0})
    path = plots.write_csv(run_dir, tmp_path / "new" / "evaluations.csv")
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["env_steps", "time/elapsed_s", "return_mean", "return_std", "return_min", "return_max", "length_mean"],
            ["0", "0.0", "0", "1.0", "-2.0", "1.0", "5.0"],
            ["3000", "1.5", "3", "1.0", "1.0", "4.0", "5.0"],
            ["4000", "", "", "", "", "", "7.0"],
        ]
