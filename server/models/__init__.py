"""The colony's nouns: each module holds a table and what can be done with it, inside a transaction that the gate opened."""
