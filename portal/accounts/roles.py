"""The five roles. Which of them may reach which address is one table: `portal/accounts/access.py`."""

from django.db.models import TextChoices


class Role(TextChoices):
    VIEWER = "viewer", "Viewer"  # sees the fleet
    OPERATOR = "operator", "Operator"  # drain, update, restart
    BILLING = "billing", "Billing"  # cloud time
    AUDITOR = "auditor", "Auditor"  # reads the audit log; writes nothing
    ADMIN = "admin", "Admin"  # all of the team's
