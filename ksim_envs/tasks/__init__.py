"""Tasks and the terms they are made of.

How they work         task (the table), terms (roles, and what a term may be), context, evaluation, tracing, randomness
Their numbers         numbers, scales (which follow the curriculum), checks (against annotations)
Quantities            observations (Gymnasium's), base_motion, bodies, joints, contacts, posture, gait, smoothness
Around quantities     measures (reduce, compare, condition), sensing (noise, delay, history), tracking (kernels)
Rewards, ends         rewards, terminations
Commands              commands (drawn and held), motion_commands (that move)
Between episodes      resets, floors, curricula; randomizers (joints, actuators), body_randomizers
Within them           events; actuators, with their targets, filters and motors
Models                edits (changes to a spec), rotations
The tasks             humanoid, ant, planar, pendulums, arms (Gymnasium's, two more); robots, locomotion make walkers
"""
