"""Recorded runs learned again: the same learner and planner on the messages of a bag. No ROS, no simulator."""
