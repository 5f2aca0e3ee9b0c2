"""Watching cameras: people become tracks, tracks become identities, and both become events.

``watching.py`` is the story; ``tracker.py`` links boxes over time in one camera,
``identities.py`` links tracks over all of them.
"""
