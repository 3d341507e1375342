"""The derivative rules, one table for each family. Importing this package registers every primitive."""
