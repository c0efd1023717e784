"""Files made to do harm, given to everything that reads files."""
