"""PostgreSQL. Loaded only where the host is told to use it: nothing outside this folder imports psycopg."""
