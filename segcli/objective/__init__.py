"""The training objective: match queries with objects, then pull each query towards its object."""
