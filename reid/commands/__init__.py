"""The ground floor's commands: options, one call, one print.

Each returns what it found, so that ``reid quickstart`` can call the others. Heavy
libraries are imported inside the functions: ``--help`` needs none of them.
"""
