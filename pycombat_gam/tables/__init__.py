"""The door: tables and files come in, are checked and sorted out, and go out as they came."""
