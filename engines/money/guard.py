"""The ledger takes no UPDATE, DELETE, TRUNCATE or overwriting INSERT, whoever holds the connection.

A migration that changes its table lowers this before and puts it up after.
"""

from portal.audit.guard import append_only

LEDGER = append_only("engines_ledgerentry", "ledger", "id", "operation_id")
