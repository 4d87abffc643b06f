"""Whether a pack is right: against the session it came from, other forms, the official code, and what runtimes take."""
