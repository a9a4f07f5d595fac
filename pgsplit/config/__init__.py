"""Configuration: YAML text in, one immutable ``Config`` or a list of located mistakes out. Reads no file."""
