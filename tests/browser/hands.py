"""Digits as scripted strokes, in five hands."""

import itertools
import math


def _arc(x, y, rx, ry, start, end, steps=14):
    """Points of an ellipse's arc, in degrees clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


def _line(*points, steps=2):
    """Points of a polygon's sides."""
    found = [points[0]]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        found += [(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps) for i in range(1, steps + 1)]
    return found


# Each digit in a box from 0 to 1.
DIGITS = {
    "0": [_arc(0.5, 0.5, 0.3, 0.45, -90, 270, 24)],
    "1": [_line((0.32, 0.25), (0.52, 0.05), (0.52, 0.95))],
    "2": [_arc(0.5, 0.28, 0.27, 0.23, -170, 40) + _line((0.66, 0.45), (0.22, 0.93), (0.8, 0.93))],
    "3": [_arc(0.47, 0.27, 0.27, 0.22, -150, 90) + _arc(0.47, 0.72, 0.3, 0.23, -90, 150)],
    "4": [_line((0.55, 0.05), (0.18, 0.62), (0.85, 0.62)), _line((0.63, 0.35), (0.63, 0.97))],
    "5": [_line((0.75, 0.07), (0.32, 0.07), (0.28, 0.44)) + _arc(0.47, 0.67, 0.28, 0.26, -130, 140)],
    "6": [_arc(0.75, 0.55, 0.5, 0.5, -90, -180) + _arc(0.5, 0.7, 0.25, 0.25, -180, 180, 20)],
    "7": [_line((0.2, 0.08), (0.8, 0.08), (0.42, 0.95))],
    "8": [_arc(0.5, 0.28, 0.22, 0.22, 90, 450, 20) + _arc(0.5, 0.73, 0.27, 0.23, -90, 270, 20)],
    "9": [_arc(0.48, 0.3, 0.25, 0.24, 0, -360, 20) + _line((0.73, 0.3), (0.68, 0.6), (0.6, 0.95))],
}

# Name of a hand → width of the pen in pixels, and where a point of the box is drawn.
HANDS = {
    "thin": (6, lambda x, y: (0.15 + 0.7 * x, 0.1 + 0.8 * y)),
    "thick": (44, lambda x, y: (0.2 + 0.6 * x, 0.15 + 0.7 * y)),
    "small": (10, lambda x, y: (0.4 + 0.2 * x, 0.4 + 0.22 * y)),
    "off-center": (20, lambda x, y: (0.03 + 0.42 * x, 0.5 + 0.46 * y)),
    "slanted": (20, lambda x, y: (0.15 + 0.65 * x + 0.28 * (0.5 - y), 0.1 + 0.8 * y)),
}


def strokes(digit, hand):
    """The strokes of a digit, and the width of the pen."""
    width, position = HANDS[hand]
    return [[position(x, y) for x, y in stroke] for stroke in DIGITS[digit]], width
