"""The graph stage: the dependency graph, all callers' view of each callee, and whole graphs, judged."""
