"""`colony prove`: a private colony is killed in every way, and then its history must hold what was promised."""
