"""The project that `outlast demo` runs: it indexes real text files."""
