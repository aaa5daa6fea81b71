"""Tables of a sweep: content, formats and notes."""
