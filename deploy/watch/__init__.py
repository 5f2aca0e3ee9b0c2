"""Watching cameras: people become tracks, tracks get identities, and both are written as events.

``watching.py`` is the main loop; ``tracker.py`` links boxes over time in one camera,
``identities.py`` links tracks over all cameras.
"""
