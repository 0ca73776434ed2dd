"""The applications that every peer serves; importing them needs the standard library and the named peer only."""
