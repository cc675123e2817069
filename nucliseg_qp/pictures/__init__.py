"""Pictures for people: previews with outlines, and the stages of the engine."""
