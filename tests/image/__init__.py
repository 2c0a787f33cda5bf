"""The image, and the files that run it: looked at by the tests, built and run by ``make test-image``."""
