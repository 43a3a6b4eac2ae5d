"""The network as a graph for another runtime, the proof that it answers the same, and the runtimes that execute it."""
