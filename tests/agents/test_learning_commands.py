"""`ksim train`, `eval`, `video` and `play`, from the words of the command line to files and exit status."""

import contextlib
import gc
import io
import subprocess
import sys
import types
import warnings

import imageio
import mujoco
import numpy as np
import pytest

from agents import logger, ppo
from agents.checkpoint import Checkpoints
from agents.cli import main
from tests.agents.quick_runs import quick_runs
from tests.marks import without_video

TASK = "ksim/InvertedPendulum-v0"
FLAGS = [
    "--num-envs=16",
    "--num-env-states-per-minibatch=64",
    "--num-minibatches=4",
    "--hidden-sizes",
    "16",
    "--num-eval-envs=4",
    "--total-env-steps=1024",
]


@pytest.fixture(scope="module", autouse=True)
def _quick_runs():
    with quick_runs():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that `ksim train` made, and what it said."""
    folder = tmp_path_factory.mktemp("runs") / "pendulum"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(["train", TASK, "--run-dir", str(folder), *FLAGS]) == 0
    return folder, said.getvalue()


@pytest.fixture(scope="module")
def run_dir(trained):
    return trained[0]


def test_train_says_what_came_of_it(trained):
    for word in ("return", "episode length", "learning_curve.png", "checkpoints", "1,024"):
        assert word in trained[1]


def test_a_module_beside_the_user_may_register_the_task(tmp_path):
    (tmp_path / "my_robot.py").write_text(
        "import ksim_envs\nksim_envs.register('ksim/MyRobot-v0', ksim_envs.get_task('ksim/InvertedPendulum-v0'))\n"
    )
    program = "import sys; from agents.cli import main; sys.exit(main())"
    for words in (["train", "my_robot:ksim/MyRobot-v0", "--run-dir=mine", *FLAGS], ["eval", "mine", "--episodes=2"]):
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, *words],
            cwd=tmp_path,
            env=without_video(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "return_mean" in done.stdout


def test_flags_become_settings(run_dir):
    task_id, config = ppo.read_settings(run_dir)
    assert task_id == TASK
    assert (config.num_envs, config.num_minibatches, config.hidden_sizes) == (16, 4, (16,))


def test_resume_takes_the_settings_of_the_run(run_dir, tmp_path, monkeypatch):
    assert main(["train", TASK, "--run-dir", str(run_dir), "--resume", "--total-env-steps=1536"]) == 0
    assert Checkpoints(run_dir / "checkpoints").steps()[-1] == 1536


def test_resume_without_a_folder_finds_the_newest_run_of_the_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", TASK, "--resume", *FLAGS]) == 0  # there is none: it begins
    assert main(["train", TASK, "--resume", "--total-env-steps=1536"]) == 0
    (folder,) = (tmp_path / "runs" / "InvertedPendulum-v0").iterdir()
    assert Checkpoints(folder / "checkpoints").steps()[-1] == 1536
    assert [row["env_steps"] for row in logger.read(folder) if row["kind"] == "train"] == [512, 768, 1024, 1280, 1536]


def test_resume_begins_where_the_first_save_was_cut_short(tmp_path):
    (tmp_path / "checkpoints" / ".tmp-cut").mkdir(parents=True)
    assert main(["train", TASK, "--run-dir", str(tmp_path), "--resume", *FLAGS]) == 0
    assert [path.name for path in (tmp_path / "checkpoints").iterdir() if "tmp" in path.name] == []
    assert Checkpoints(tmp_path / "checkpoints").steps()[-1] == 1024


@pytest.mark.parametrize(
    ("word", "said"), [("--run-dir", "--run-dir"), ("--resume=True", "Unrecognized"), ("--num-envs=x", "--num-envs")]
)
def test_wrong_flags_are_refused_in_words(word, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", TASK, word])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--episodes", "0"], ["--seed", "-1"], ["--gymnasium", "--episodes", "0"]])
def test_eval_of_nothing_is_refused(run_dir, words, capsys):
    assert main(["eval", str(run_dir), *words]) == 2
    said = capsys.readouterr().err
    assert "must lie" in said or "at least 1" in said


def test_eval_in_gymnasium_has_no_engine_to_choose(run_dir, capsys):
    assert main(["eval", str(run_dir), "--gymnasium", "--backend", "mjx"]) == 2
    assert "leave them or --gymnasium out" in capsys.readouterr().err


def test_a_second_run_in_the_folder_is_refused(run_dir, capsys):
    assert main(["train", TASK, "--run-dir", str(run_dir), *FLAGS]) == 2
    assert "holds a run" in capsys.readouterr().err


def test_a_rollout_that_is_not_whole_is_refused_with_the_nearest_that_is(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", TASK, "--num-envs=100"])
    assert "num_minibatches = 25" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("words", [[], ["--gymnasium"]], ids=["ours", "gymnasium"])
def test_eval_prints_the_return(run_dir, words, capsys):
    assert main(["eval", str(run_dir), "--episodes", "3", *words]) == 0
    assert "return_mean" in capsys.readouterr().out


def test_eval_of_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main(["eval", str(tmp_path)]) == 2
    assert "no checkpoint" in capsys.readouterr().err


def test_video_shows_the_policy(run_dir, tmp_path, capsys):
    path = tmp_path / "policy.mp4"
    if main(["video", str(run_dir), "--path", str(path), "--steps", "20"]) == 2:
        said = capsys.readouterr().err
        assert "GL" in said
        pytest.skip(said)
    frames = frames_of(path)
    assert frames.ndim == 4 and len(frames) > 2
    assert frames.std() > 5  # not blank


def frames_of(path):
    """The frames of a video. The reader is a process, whose pipes imageio leaves to the garbage collector."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        with imageio.get_reader(path) as reader:
            frames = [frame for frame in reader]  # list() would ask for its length, which is infinite
        del reader
        gc.collect()
    return np.stack(frames)


def test_play_without_a_display_names_the_remedy(run_dir, monkeypatch, capsys):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["play", str(run_dir)]) == 2
    assert "ksim video" in capsys.readouterr().err


def test_play_shows_the_state_of_the_env_until_the_window_is_closed(run_dir, monkeypatch):
    """With a stand-in for the window, which no test machine has."""
    shown = []

    class Window:
        def __init__(self, model, data):
            self.data = data

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def is_running(self):
            return len(shown) < 5

        def sync(self):
            shown.append(self.data.time)

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setitem(sys.modules, "mujoco.viewer", types.SimpleNamespace(launch_passive=Window))
    assert main(["play", str(run_dir)]) == 0
    step = mujoco.MjModel.from_xml_string("<mujoco/>").opt.timestep  # 0.002 s
    assert len(shown) == 5 and all(time >= step for time in shown)


def test_help_of_train_loads_no_jax():
    program = (
        "import sys\n"
        "from agents.cli import main\n"
        "try:\n    main(['train', 'ksim/Humanoid-v0', '--help'])\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "assert 'jax' not in sys.modules, 'JAX was loaded'\n"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert "--num-env-states-per-minibatch" in child.stdout
