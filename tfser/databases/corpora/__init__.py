"""One file per corpus: licence, citation, layout and published counts."""
