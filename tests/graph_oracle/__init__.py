"""The slow oracle of the graph: what the whole set of raw spans says about who calls whom, recomputed from
scratch with dictionaries. It knows nothing of blocks, windows that slide, sampled traces or facts."""
