"""Pictures for people: one file per kind of picture, and what they are drawn with."""
