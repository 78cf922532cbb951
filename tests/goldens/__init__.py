"""Golden incidents: recorded spans in, decisions out, as files. `make.py` makes them; `about.md` in each
folder says what happens there and why its decisions are right."""
