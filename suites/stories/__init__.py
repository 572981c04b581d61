"""Does a whole story end well? Longer faults, with what the members of a cluster said of each other on the way."""
