"""The tests of maximum are those of minimum too."""

from ops.test_maximum import extremum

OP = extremum("minimum")
