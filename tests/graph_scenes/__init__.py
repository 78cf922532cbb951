"""Scenes for the graph stage: small worlds of services that really call each other, break and recover.

`world.py` says what a world is made of, `simulation.py` lets it run, `exporting.py` makes records of its
spans, `scenes.py` has the seven scenes with what must come out of each.
"""
