"""The parts of the test hosts; see ../README.md. Use them through ../testbed.py."""
