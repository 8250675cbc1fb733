"""Evaluation of a recorded run against the ground truth. Works on a bag; learns and steers nothing."""
