"""The chaos suite: right answers or documented refusals while processes, connections and clients fail."""
