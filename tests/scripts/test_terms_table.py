"""The table of ksim's terms: made from the code as it is, complete, and without an empty cell."""

from __future__ import annotations

import re

import pytest

from scripts.terms_table import ROLES, ROOT, TARGET, TASKS, page

OBSERVATIONS = """
    BasePosition BaseOrientation BaseLinearVelocity BaseAngularVelocity JointPosition DelayedJointPosition
    JointVelocity DelayedJointVelocity CenterOfMassInertia CenterOfMassVelocity ActuatorForce Sensor
    BaseLinearAcceleration BaseAngularAcceleration ActuatorAcceleration ProjectedGravity Contact FeetContact
    BodyPosition BodyVelocity BodyOrientation SiteOrientation FeetOrientation FeetForce FeetTorque Timestep ActPos
"""
OLD_OBSERVATIONS = "History FeetPosition ActVel ContactForce BiasedJointPosition"
NOISES = """
    AdditiveGaussianNoise AdditiveUniformNoise MultiplicativeGaussianNoise MultiplicativeUniformNoise ChainedNoise
    AdditiveGaussianBias AdditiveUniformBias MultiplicativeGaussianBias MultiplicativeUniformBias
    UniformRandomVariable GaussianRandomVariable UniformGaussianRandomVariable action_latency_range drop_action_prob
    zero_offset_std zero_offset_mag
"""
COMMANDS = """
    FloatVector IntVector StartPosition StartQuaternion LinearVelocity AngularVelocity CartesianCoordinate
    SinusoidalGait BaseHeight JointPosition
"""
OLD_COMMANDS = """
    Joystick EasyJoystick LinearVelocityStep AngularVelocityStep Position CartesianBodyTarget GlobalBodyQuaternion
"""
REWARDS = """
    StayAlive LinearVelocity AngularVelocity OffAxisVelocity BaseHeight BaseHeightRange ActionVelocity
    ActionAcceleration ActionJerk SmallJointVelocity SmallJointAcceleration SmallJointJerk AvoidLimits Torque Energy
    JointDeviation FlatBody PositionTracking Upright NoRoll LinkAcceleration LinkJerk Symmetry PairwiseSymmetry
    Reachability FeetAirTime FeetSlip SparseTargetHeight MotionlessAtRest Force SinusoidalGait JointPosition
    Intersection
"""
OLD_REWARDS = """
    NaiveForward NaiveForwardOrientation Joystick EasyJoystick LinearVelocityTracking AngularVelocityTracking
    HeadingTracking HeadingVelocity BaseHeightTracking FeetNoContact FeetFlat FeetPhase FeetHeight TargetHeight
    FeetGroundedAtRest LongContact ActionInBounds SmallCtrl QposReferenceMotion ReferenceMotion
    TimeWarpedReferenceMotion XYZBodyTarget QuaternionTracking LinearVelocityPenalty AngularVelocityPenalty
    XYAngularVelocity JointVelocity JointAcceleration JointJerk ActionSmoothness ActionNearPosition Ctrl
    ActuatorForcePenalty ActuatorRelativeForce ActuatorJerk BaseJerkZ ObservationMean FootContact FootSlip
    FeetClearance DefaultPoseDeviation Orientation Termination Stationary SingleFootContact NoContact ArmPosition
    RollPitchOrientation TerrainBaseHeight FeetOrientation CoMSupport BaseAcceleration
"""
TERMINATIONS = """
    NotUpright MinimumHeight IllegalContact BadZ BadVelocity FarFromOrigin EpisodeLength PitchTooGreat RollTooGreat
    HighVelocity HighRootVelocity FastAcceleration Fall TerrainBadZ
"""
RESETS = """
    HFieldXYPosition PlaneXYPosition RandomJointPosition RandomJointVelocity RandomBaseVelocityXY RandomHeading
    RandomHeight RandomPitchRoll InitialMotionState
"""
EVENTS = "LinearPush AngularPush Jump ForcePush Push JointPerturbation"
RANDOMIZERS = """
    StaticFriction FloorFriction Armature MassAddition MassMultiplication AllBodiesMassMultiplication JointDamping
    IMUAlignment COM AllBodiesCOM AllBodiesInertia CollisionBody JointZeroPosition
"""
ACTUATORS = """
    TorqueActuators PositionActuators PositionVelocityActuator ScaledTorqueActuators MITPositionActuators
    MITPositionVelocityActuators MITDeltaPositionActuators VelocityActuators AccelerationActuators JerkActuators
    FeetechActuators ActuatorMetadata clip_acceleration integrate_velocity integrate_acceleration ClipPositions
    TanhPositions lowpass_one_pole lowpass_one_pole_scan
"""
CURRICULA = """
    ConstantCurriculum LinearCurriculum EpisodeLengthCurriculum DistanceFromOriginCurriculum StepWhenSaturated
    RewardLevelCurriculum LinearScale QuadraticScale SquareRootScale NonZeroScale
"""
KSIM = {
    "Observations": [f"{name}Observation" for name in (OBSERVATIONS + OLD_OBSERVATIONS).split()],
    "Noise and delays": NOISES.split(),
    "Commands": (COMMANDS + OLD_COMMANDS).split(),
    "Rewards": (REWARDS + OLD_REWARDS).split(),
    "Terminations": [f"{name}Termination" for name in TERMINATIONS.split()],
    "Resets": [f"{name}Reset" for name in RESETS.split()] + ["get_xy_position_reset"],
    "Events": [f"{name}Event" for name in EVENTS.split()],
    "Randomizers": [f"{name}Randomizer" for name in RANDOMIZERS.split()],
    "Actuators": ACTUATORS.split(),
    "Curricula": CURRICULA.split(),
}
"""The names of ksim's last version (0.2.10), of its K-Bot example and of its history, by role."""


def table() -> dict[str, dict[str, list[str]]]:
    """The cells of the page behind the first of each row, by role and by the name in the first."""
    sections = re.split(r"^## (.+)$", TARGET.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found: dict[str, dict[str, list[str]]] = {}
    for role, text in zip(sections[::2], sections[1::2], strict=True):
        lines = [line for line in text.splitlines() if line.startswith("| `")]
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
        found[role] = {row[0].strip("`"): row[1:] for row in rows}
        assert len(found[role]) == len(rows), f"a name stands twice under {role}"
    return found


def test_the_page_is_that_of_the_code_as_it_is():
    assert TARGET.read_text(encoding="utf-8") == page(), "run python -m scripts.terms_table"


def test_ksims_last_version_has_as_many_terms_as_the_lists_here():
    sizes = {"observations": OBSERVATIONS, "commands": COMMANDS, "rewards": REWARDS, "resets": RESETS}
    counts = {name: len(names.split()) for name, names in sizes.items()}
    assert counts == {"observations": 27, "commands": 10, "rewards": 33, "resets": 9}


@pytest.mark.parametrize("role", ROLES)
def test_every_term_of_ksim_has_its_row(role):
    assert set(KSIM[role]) - table()[role].keys() == set()


def test_no_cell_is_empty_and_every_link_leads_to_a_file():
    for rows in table().values():
        for name, cells in rows.items():
            assert len(cells) == 3 and all(cells), name
            for link in re.findall(r"\]\((.*?)\)", " ".join(cells)):
                assert (TARGET.parent / link).is_file(), name


def test_a_row_links_a_term_here_and_a_test_in_the_file_that_it_names():
    for rows in table().values():
        for name, (here, _, tested) in rows.items():
            for module, term in re.findall(r"\[`(\w+)\.(\w+)`\]", here):
                assert f"class {term}" in (ROOT / TASKS / f"{module}.py").read_text(encoding="utf-8"), name
            for test, file in re.findall(r"\[`(\w+)(?:\[\w+\])?`\]\((.*?)\)", tested):
                assert f"def {test}(" in (TARGET.parent / file).read_text(encoding="utf-8"), name
