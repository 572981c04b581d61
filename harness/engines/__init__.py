"""Where nodes and links come from: containers or local processes, with Toxiproxy before every client."""
