"""Looking after a repository: what is reachable, whether all of it is whole, and what can go."""
