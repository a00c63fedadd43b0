"""The database: connections and what is asked on them, the schema and its migrations, roles and rights."""
