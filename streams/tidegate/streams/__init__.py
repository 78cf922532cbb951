"""How it runs: Faust app, command line, replay, embedded broker. The only place with I/O."""
