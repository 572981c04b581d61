"""Pure functions of a history: what it shows of each guarantee, and whether it was a fair trial."""
