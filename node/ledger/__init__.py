"""The ledger: transactions, fenced leases, group commit, migrations, backup, and what it says in numbers."""
