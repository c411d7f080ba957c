class UserError(Exception):
    """A mistake in what the user gave; its text is one sentence: what is wrong, where, and what would be right."""
